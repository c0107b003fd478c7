"""What a server offers beyond conversations, asked once with two small calls and kept in the home.

Told are: whether completions take and give token ids, whether they read the ids that they were sent, whether ids mean
the same words there as in the tokenizer's folder, whether they give log-probabilities of the prompt, and how long a
sequence may be.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.engines.served.calls import hush
from harness.engines.served.failures import hidden
from harness.engines.served.settings import Served
from harness.engines.served.vocabulary import TEXT, difference
from harness.errors import UserError
from harness.records.hashing import file_sha256, sha256
from harness.records.templates import template_hash, tokenizer_home
from harness.store.atomic import write_json
from harness.store.home import Home

_SECONDS = 20.0
_LACKS_SECONDS = 60.0
_IDS = (5, 6, 7)
"""Every vocabulary has these, so that no tokenizer needs to be loaded before a run."""
_LOOK = 2
"""Raised when more is asked than before: what was kept then is asked again."""
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt")


class Silent(UserError):
    """A server that does not answer now; it may later."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a server has for one model. `lacks` says, per thing that it has not, what was asked and what came."""

    ids: bool = False
    logprobs: bool = False
    context: int | None = None
    """The longest sequence, prompt and answer together, in tokens; None where the server does not tell."""
    software: str = ""
    """What the server says about itself."""
    lacks: Mapping[str, str] | None = None

    def require(self, served: Served) -> None:
        """Refuses a server that takes no token ids, or means other words by them.

        Raises:
            UserError: says what it lacks or read, and what works with it.
        """
        if other := (self.lacks or {}).get("tokenizer"):
            raise UserError(
                f"{served.where} {other}. With another model's tokenizer every prompt and every answer would be other "
                f"words, so nothing is asked: let `tokenizer:` name the folder of the model that runs there as "
                f"{served.model}, or let `url:` and `model:` name the server of that folder's model"
            )
        if not self.ids:
            raise UserError(
                f"{served.where} takes no token ids: {(self.lacks or {}).get('ids', 'it said so')}. With `tokenizer:` "
                "loopbench renders and tokenises by itself and needs a server such as `vllm serve`; without it, the "
                "server answers conversations by its own template, and that any OpenAI-compatible server does"
            )


def tokenizer_identity(folder: Path) -> str:
    """Hash of a tokenizer's files and of its chat template."""
    home = tokenizer_home(folder)
    stamps = ((name, (home / name).stat()) for name in _TOKENIZER if (home / name).is_file())
    files = dict(_digest(home / name, about.st_size, about.st_mtime_ns) for name, about in stamps)
    return sha256({"files": files, "template": template_hash(folder)})


@cache
def _digest(file: Path, size: int, changed: int) -> tuple[str, str]:
    """Name and hash of a file as it is at this size and time: a plan asks for every stage, and files have megabytes."""
    return file.name, file_sha256(file)


def kept(served: Served, folder: Path, home: Home) -> Offer | None:
    """What a server was found to offer earlier; None where it is to be asked.

    What it was found to lack counts for a minute, for one command: another server may stand there when it is run again.
    """
    found = told(served, folder, home)
    if found is not None and found.lacks:
        with suppress(OSError):
            age = time.time() - _file(served, folder, home).stat().st_mtime
            return None if age > _LACKS_SECONDS else found
    return found


def told(served: Served, folder: Path, home: Home) -> Offer | None:
    """What a server said when it was last asked; None where it was not."""
    try:
        return Offer(**json.loads(_file(served, folder, home).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def offer_of(served: Served, folder: Path, home: Home) -> Offer:
    """What a server offers: kept from an earlier look, else asked now and kept.

    One that was started again with another length is asked anew; its list of models, which costs nothing, tells.

    Raises:
        Silent: it does not answer.
        UserError: its key is missing.
    """
    if (known := kept(served, folder, home)) is not None and not _changed(known, served):
        return known
    found = probe(served, folder)
    place = _file(served, folder, home)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, asdict(found))
    return found


def _changed(known: Offer, served: Served) -> bool:
    """Whether the server that stands there now names another length; one that tells nothing is as it was."""
    with suppress(Silent), _Client(served) as client:
        return client.context() not in (None, known.context)
    return False


def probe(served: Served, folder: Path) -> Offer:
    """Asks a server for one token, twice: after a text, and after ids. A paid one may bill some hundred tokens.

    The text shows which ids it has for which words, the ids whether it takes them and scores them.

    Raises:
        Silent: it does not answer.
        UserError: its key is missing, or the tokenizer in the folder cannot be read.
    """
    with _Client(served) as client:
        context = client.context()
        told, _ = client.completion({"prompt": TEXT, "return_token_ids": True, "add_special_tokens": False})
        text = _choice(told)
        told, why = client.completion({"prompt": list(_IDS), "return_token_ids": True, "prompt_logprobs": 0})
    choice = _choice(told)
    lacks = _lacks(text, choice, why, folder)
    fits = not lacks.keys() & {"ids", "tokenizer"}
    software = str(told.get("system_fingerprint") or "") if fits else ""
    return Offer(ids=fits, logprobs=not lacks, context=context, software=software, lacks=lacks or None)


def _lacks(text: Mapping[str, Any], choice: Mapping[str, Any], why: str, folder: Path) -> dict[str, str]:
    """What is missing, by the choices that came after the text and after the ids; `why` the latter did not come."""
    # Where ids came after a text and nothing after ids, it was the log-probabilities that were refused: the two calls
    # differ in no other field, and whoever returns ids takes them.
    if not isinstance((choice or text).get("token_ids"), list):
        return {"ids": why or "its completions come without ids (`return_token_ids`)"}
    if choice.get("prompt_token_ids") not in (None, list(_IDS)):
        return {"ids": "it read other ids than it was sent"}
    if other := difference(folder, text.get("prompt_token_ids")):
        return {"tokenizer": other}
    places = choice.get("prompt_logprobs")
    if not isinstance(places, list) or len(places) != len(_IDS):
        return {"logprobs": why or "its completions come without those of the prompt (`prompt_logprobs`)"}
    return {}


class _Client:
    """Calls to a server whose failures are findings, not errors."""

    def __init__(self, served: Served) -> None:
        import openai

        hush()
        self._served, self._key = served, served.key()
        self._client = openai.OpenAI(
            api_key=self._key or "none", base_url=served.url, max_retries=1, timeout=min(_SECONDS, served.timeout)
        )
        self._client.organization = self._client.project = None

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def context(self) -> int | None:
        """`max_model_len` of the model, as vLLM's servers list it."""
        import openai

        try:
            listed = self._client.models.with_raw_response.list().http_response.json()["data"]
            mine = next(entry for entry in listed if entry["id"] == self._served.model)
            return int(mine["max_model_len"])
        except openai.APIConnectionError as error:
            raise self._silent(error) from None
        except (openai.OpenAIError, StopIteration, KeyError, TypeError, ValueError):
            return None

    def completion(self, fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        """A document of one token, or an empty one and why there is none."""
        import openai

        body = {"model": self._served.model, "max_tokens": 1, "temperature": 0.0, **fields}
        try:
            text = self._client.post("/completions", body=body, cast_to=str)
            found = json.loads(text)
            return (found, "") if isinstance(found, dict) else ({}, "its completions are no JSON object")
        except openai.APIStatusError as error:
            if error.status_code in (401, 403, 429) or error.status_code >= 500:
                raise self._silent(error) from None
            said = hidden(" ".join(error.response.text.split())[:200], self._key)
            return {}, f"/completions answers with status {error.status_code} ({said})"
        except openai.APIConnectionError as error:
            raise self._silent(error) from None
        except ValueError:
            return {}, "/completions answers with something that is no JSON"

    def _silent(self, error: Exception) -> Silent:
        why = hidden(str(error.__cause__ or error) or type(error).__name__, self._key)
        return Silent(f"{self._served.where} could not be asked what it offers ({why[:200]}): start it before a run")


def _choice(document: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _file(served: Served, folder: Path, home: Home) -> Path:
    where = sha256({"url": served.url, "model": served.model, "tokenizer": tokenizer_identity(folder), "look": _LOOK})
    return home.path / "served" / f"{where[:32]}.json"
