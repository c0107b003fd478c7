"""Passages from a web search service with Serper's interface (POST {q, gl, hl}, key in the header X-API-KEY).

Reads a reply as ReAlign's `google_serper.py` does: answer box, knowledge graph, then organic results. Unlike it, a
timeout or a broken reply is that question's outcome instead of a crash, nothing is tried for ever, and snippets are
cleaned before they are counted, not after.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError
from harness.select._lookup.base import Looked

URL = "https://google.serper.dev/search"
_SKIPPED = ("Missing:", "Duration:", "Posted:")
_NOTHING = "No good Google Search Result was found"
_NO_CONNECTION = "no connection"
_REFUSED = (401, 402, 403)
_LONGEST_WAIT = 30.0


class _Later(Exception):
    """Worth another try; the message is the outcome once tries are used up."""


class _Never(Exception):
    """No other try could help; the message is the outcome."""


@dataclass(frozen=True, kw_only=True)
class WebSearch:
    """`timeout`: seconds for one try. `tries`: how often a question is sent at most. `at_once`: questions under way."""

    key: str
    url: str = URL
    country: str = "us"
    language: str = "en"
    timeout: float = 20.0
    tries: int = 3
    at_once: int = 8

    def look_up(self, questions: Sequence[str], hits: int) -> list[Looked]:
        """One search per question, several at a time.

        Raises:
            UserError: the service refuses the key, or is not there for any of the questions: no other question would
                fare better, and rows that go on without evidence would stay without it.
        """
        with ThreadPoolExecutor(self.at_once) as pool:
            found = list(pool.map(lambda question: self._looked(question, hits), questions))
        if found and all(one.outcome.startswith(f"failed: {_NO_CONNECTION}") for one in found):
            raise UserError(
                f"the search service {self.url} cannot be reached ({found[0].outcome}): check the network and `url` of "
                "the block `retrieve`, then run the same command again"
            )
        return found

    def _looked(self, question: str, hits: int) -> Looked:
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        again = Retrying(
            retry=retry_if_exception_type(_Later),
            stop=stop_after_attempt(self.tries),
            wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT),
            reraise=True,
        )
        try:
            reply = again(self._reply, question)
        except (_Later, _Never) as error:
            return Looked(outcome=f"failed: {error}")
        return Looked.of(list(dict.fromkeys(snippets(reply)))[:hits])

    def _reply(self, question: str) -> Mapping[str, Any]:
        import requests

        try:
            response = requests.post(
                self.url,
                headers={"X-API-KEY": self.key},
                json={"q": question, "gl": self.country, "hl": self.language},
                timeout=self.timeout,
                allow_redirects=False,  # the key is nobody's business elsewhere
            )
        except requests.Timeout:
            raise _Later("timeout") from None
        except requests.RequestException as error:  # its text may hold the URL, never the key
            raise _Later(f"{_NO_CONNECTION} ({type(error).__name__})") from None
        if response.status_code in _REFUSED:
            raise UserError(
                f"the search service {self.url} refuses the key (status {response.status_code}): check the variable "
                "that `key_env` of the block `retrieve` names, and the account behind it"
            )
        if response.status_code == 429 or response.status_code >= 500:
            raise _Later(f"status {response.status_code}")
        if response.status_code != 200:
            raise _Never(f"status {response.status_code}")
        try:
            reply = response.json()
        except requests.JSONDecodeError:
            raise _Later("reply is not JSON") from None
        if not isinstance(reply, dict):
            raise _Later("reply is not an object")
        return reply


def key_from(variable: str) -> str:
    """The key in an environment variable.

    Raises:
        UserError: it is not set.
    """
    if not (key := os.environ.get(variable, "").strip()):
        raise UserError(
            f"retrieve with `by: web` needs a key for the search service: set the environment variable {variable}, or "
            "name another one with `key_env`"
        )
    return key


def snippets(reply: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a reply in order, cleaned; parts of another form than expected are passed over."""
    for text in _texts(reply):
        clean = " ".join(text.split())
        if clean and clean != _NOTHING and not clean.startswith(_SKIPPED):
            yield clean


def _texts(reply: Mapping[str, Any]) -> Iterator[str]:
    box = _mapping(reply.get("answerBox"))
    lit = box.get("snippetHighlighted")
    best = box.get("answer") or box.get("snippet") or (" ".join(map(str, lit)) if isinstance(lit, list) else lit)
    if best:
        yield str(best)
    graph = _mapping(reply.get("knowledgeGraph"))
    if graph.get("type"):
        yield f"{graph['title']}: {graph['type']}" if graph.get("title") else str(graph["type"])
    if graph.get("description"):
        yield str(graph["description"])
    yield from _attributes(graph)
    organic = reply.get("organic")
    for result in organic if isinstance(organic, list) else []:
        found = _mapping(result)
        if found.get("snippet"):
            yield str(found["snippet"])
        yield from _attributes(found)


def _attributes(part: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name}: {value}" for name, value in _mapping(part.get("attributes")).items())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
