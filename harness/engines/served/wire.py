"""The chat-completions form: a request's body, and what is read out of a reply.

Nothing but `choices[0]` and `usage` is read, and nothing is trusted: a field that is missing or of another type makes
the reply malformed (it is asked for again), a log-probability that is no number is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.engines.base import GenerateRequest, Sampling
from harness.engines.served.settings import Served
from harness.engines.texts import by_text
from harness.errors import LoopbenchError, UserError
from harness.records.hashing import seed_of, sha256

FORMAT = 1
"""Raised when a cached reply would be read otherwise than before."""
_SEEDS = 2**31
"""Servers differ in how large a seed may be; all take 31 bits."""
BYTES_PER_TOKEN = 4
"""For servers that do not count: English text in common tokenizers."""


class Malformed(ValueError):
    """A reply that is no completion."""


class Lacking(LoopbenchError):
    """A whole reply without something that was asked for: the server does not have it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it is sent. Equal calls have equal keys, in any stage and experiment."""

    body: Mapping[str, Any]
    key: str
    prompt_bytes: int
    max_tokens: int
    path: str = "/chat/completions"
    prompt_tokens: int | None = None
    """Tokens of the prompt, where they are known."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server answered. `counted` is false where it told no token counts, which are then estimates."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    top: tuple[Mapping[str, float], ...] = ()
    counted: bool = True
    token_ids: tuple[int, ...] = ()
    """What was written, from a server that takes and tells token ids."""
    top_ids: tuple[Mapping[int, float], ...] = ()
    """Per token of `token_ids` the likely ids, best first; only if asked for."""
    scores: tuple[float, ...] = ()
    """Log-probability of every id of the prompt but the first; only if asked for."""
    greedy: tuple[bool, ...] = ()
    """Aligned with `scores`: whether the id was the likeliest."""


def call_of(served: Served, request: GenerateRequest, draw: int) -> Call:
    """The call for one draw of a request.

    Raises:
        UserError: the request needs what no server takes: raw ids, a user's turn, or bans and biases by token id.
    """
    sampling = request.sampling
    _check(served, request)
    body: dict[str, Any] = {
        "model": served.model,
        "messages": [{"role": m["role"], "content": m["content"]} for m in request.messages],
        "temperature": sampling.temperature,
        served.length_field: sampling.max_tokens,
    }
    # What the server will sample at: `body:` of the model goes before the suite's, and null leaves it to the server.
    greedy = served.body.get("temperature", sampling.temperature) == 0
    seed = None if greedy else seed_of(request.seed, draw) % _SEEDS
    if seed is not None:
        body["seed"] = seed
    if sampling.top_p != 1:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    body = {name: value for name, value in (body | dict(served.body)).items() if value is not None}
    text = json.dumps(body["messages"], ensure_ascii=False)
    return Call(
        body=body,
        key=sha256({"format": FORMAT, "model": served.identity, "body": body, "seed": seed}),
        prompt_bytes=len(text.encode("utf-8", "replace")),
        max_tokens=int(body.get(served.length_field) or sampling.max_tokens),
    )


def _check(served: Served, request: GenerateRequest) -> None:
    plain, asked = Sampling(), request.sampling
    names = ("stop_ids", "logit_bias", "first_temperature", "first_bans")
    odd = [name for name in names if getattr(asked, name) != getattr(plain, name)]
    if odd:
        raise UserError(f"{served.where} is a served model and cannot be asked with {', '.join(odd)}")
    if not request.messages:
        raise UserError(
            f"{served.where} is a served model: it answers conversations, and cannot continue raw text or write a "
            "user's turn. Bind a model folder to this role"
        )


def parse(text: str, prompt_bytes: int) -> Reply:
    """The reply in a server's document.

    Raises:
        Malformed: it is no JSON (cut off, a web page) or no chat completion.
    """
    document = document_of(text)
    choice = choice_of(document, "message", dict)
    message = choice["message"]
    content = _content(message.get("content"))
    finish = str(choice.get("finish_reason") or "stop")
    if not content and message.get("refusal"):
        finish = "content_filter"
    counts = counts_of(document)
    prompt_tokens, completion_tokens = counts or (
        _tokens(prompt_bytes),
        _tokens(len(content.encode("utf-8", "replace"))),
    )
    return Reply(
        text=content,
        finish=finish if finish in ("length", "content_filter") else "stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        top=_top(choice.get("logprobs")),
        counted=counts is not None,
    )


def document_of(text: str) -> Any:
    """A server's document.

    Raises:
        Malformed: it is no JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise Malformed(f"no JSON ({len(text):,} characters, beginning {text[:60]!r})") from error


def choice_of(document: Any, name: str, kind: type) -> dict[str, Any]:
    """The first choice, which holds `name` of this type.

    Raises:
        Malformed: there is none; an error that stands in its place is quoted.
    """
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get(name), kind):
        said = document.get("error") if isinstance(document, dict) else None
        raise Malformed(f"an error inside an answer: {str(said)[:200]}" if said else "JSON without choices")
    return choice


def counts_of(document: Any) -> tuple[int, int] | None:
    """Tokens of the prompt and of the answer, where the server tells both."""
    usage = document.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return None if prompt is None or completion is None else (prompt, completion)


def _content(content: Any) -> str:
    """Text, parts of text, or nothing at all, which is an empty answer."""
    if isinstance(content, list):
        return whole("".join(str(part.get("text") or "") for part in content if isinstance(part, dict)))
    return whole(content) if isinstance(content, str) else ""


def whole(text: str) -> str:
    """A text that can be written: half a surrogate pair (an answer cut inside an emoji) becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _top(logprobs: Any) -> tuple[Mapping[str, float], ...]:
    places = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(places, list):
        return ()
    return tuple(by_text(_pairs(place.get("top_logprobs") if isinstance(place, dict) else None)) for place in places)


def _pairs(entries: Any) -> list[tuple[str, float]]:
    known = [entry for entry in entries or () if isinstance(entry, dict)] if isinstance(entries, list) else []
    values = [(whole(str(entry.get("token", ""))), entry.get("logprob")) for entry in known]
    return [(text, float(value)) for text, value in values if isinstance(value, int | float) and math.isfinite(value)]


def _tokens(count: int) -> int:
    return -(-count // BYTES_PER_TOKEN)
