"""The completions form with token ids: what is sent to a server that takes ids, and what is read out of its reply.

The fields beyond OpenAI's (`return_token_ids`, `stop_token_ids`, `ignore_eos`, `prompt_logprobs`, `logprob_token_ids`)
are vLLM's. Every end of a continuation is sent as a stop id, and the server's own ones are off, so a model ends where
the transformers engine ends it. A field whose default a server may take from a model's folder is always sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.engines.base import GenerateRequest, LogprobRequest, Sampling
from harness.engines.sampling import row_key
from harness.engines.served.settings import Served
from harness.engines.served.wire import Call, Lacking, Malformed, Reply, choice_of, counts_of, document_of, whole
from harness.errors import UserError
from harness.records.hashing import sha256

FORMAT = 1
"""Raised when a cached reply would be read otherwise than before."""
PATH = "/completions"
_BAN = -100.0
"""The lowest bias that OpenAI's interface has."""
_SEEDS = 2**63 - 1
"""Of the 64 bits of a row's key; so a draw has one seed in a server and in the vLLM engine."""
_ID = "token_id:"
_OWN = frozenset(
    {"prompt", "model", "max_tokens", "stop_token_ids", "ignore_eos", "return_token_ids", "logprobs", "prompt_logprobs"}
)
"""Fields that `body:` must not touch: the reply could not be read."""


@dataclass(frozen=True)
class Ends:
    """The ids that end a continuation, and the longest sequence (prompt and answer together)."""

    turn: tuple[int, ...]
    text: tuple[int, ...]
    context: int | None

    def of(self, sampling: Sampling) -> tuple[int, ...]:
        """All stop ids of a request, sorted."""
        own = self.turn if sampling.ends == "turn" else self.text
        return tuple(sorted({*own, *sampling.stop_ids}))


def check_body(served: Served) -> None:
    """Refuses extra fields that would change what is read.

    Raises:
        UserError: names the field.
    """
    if odd := sorted(_OWN & served.body.keys()):
        raise UserError(f"{served.where}: with `tokenizer:`, `body:` cannot hold {odd[0]}, which loopbench sets itself")


def first_call(served: Served, request: GenerateRequest, draw: int, ends: Ends) -> Call:
    """The call for a draw; where the first token has rules of its own, for that token alone."""
    sampling = request.sampling
    if not apart(sampling):
        return _call(served, request.prompt, sampling, _room(request, ends), row_key(request.seed, draw), ends)
    heat = sampling.temperature if sampling.first_temperature is None else sampling.first_temperature
    bans = dict.fromkeys(sampling.first_bans, _BAN)
    alone = replace(sampling, temperature=heat, logit_bias={**sampling.logit_bias, **bans})
    return _call(served, request.prompt, alone, 1, row_key(request.seed, draw), ends)


def apart(sampling: Sampling) -> bool:
    """Whether the first token is drawn by other rules than the rest, so that it takes a call of its own."""
    return bool(sampling.first_bans) or sampling.first_temperature is not None


def next_call(served: Served, request: GenerateRequest, draw: int, ends: Ends, first: Reply) -> Call | None:
    """The call that goes on after a first token; None where that was the end."""
    sampling, left = request.sampling, _room(request, ends) - len(first.token_ids)
    ended = not first.token_ids or first.token_ids[-1] in ends.of(sampling)
    if left < 1 or ended or any(stop in first.text for stop in sampling.stop):
        return None
    seed = row_key(row_key(request.seed, draw), 1)
    return _call(served, request.prompt + first.token_ids, sampling, left, seed, ends)


def joined(first: Reply, rest: Reply | None) -> Reply:
    """One reply of a first token and what follows it."""
    if rest is None:
        return first
    return replace(
        rest,
        text=first.text + rest.text,
        prompt_tokens=first.prompt_tokens,
        completion_tokens=first.completion_tokens + rest.completion_tokens,
        token_ids=first.token_ids + rest.token_ids,
        top_ids=first.top_ids + rest.top_ids,
    )


def score_call(served: Served, request: LogprobRequest, ends: Ends) -> Call:
    """The call for the log-probabilities of given ids.

    A server reads one token less than its context, so that it can write one. An id beyond that is scored as a token
    that could have been written.
    """
    beyond = ends.context is not None and len(request.ids) > ends.context
    ids, last = (request.ids[:-1], request.ids[-1]) if beyond else (request.ids, None)
    body: dict[str, Any] = {"model": served.model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0}
    body |= {"prompt_logprobs": 0, "return_token_ids": True}
    if last is not None:
        body |= {"logprobs": 1, "logprob_token_ids": [last], "return_tokens_as_token_ids": True}
    return _sealed(served, body, ids, 1, None)


def read(text: str, call: Call) -> Reply:
    """The reply in a server's document.

    Raises:
        Malformed: it is no JSON, no completion, or one that was broken off.
        Lacking: the server gives no token ids, or no log-probabilities where they were asked for.
    """
    document = document_of(text)
    choice = choice_of(document, "text", str)
    finish, ids = choice.get("finish_reason"), choice.get("token_ids")
    if finish not in ("stop", "length"):
        raise Malformed(f"an answer that was broken off (finish_reason {finish!r})")
    if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
        raise Lacking(NO_IDS)
    scores, greedy = _scores(choice, call) if "prompt_logprobs" in call.body else ((), ())
    asked = int(call.body.get("logprobs") or 0) if "prompt_logprobs" not in call.body else 0
    tops = _tops(choice.get("logprobs"), asked) if asked else ()
    prompt_tokens, completion_tokens = counts_of(document) or (len(call.body["prompt"]), len(ids))
    return Reply(
        text=whole(choice["text"]),
        finish=str(finish),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        token_ids=tuple(ids),
        top_ids=tops,
        scores=scores,
        greedy=greedy,
    )


NO_IDS = "its completions come without token ids (`return_token_ids`)"
NO_LOGPROBS = "its completions come without log-probabilities of the prompt (`prompt_logprobs`)"
NO_CHOSEN = "its completions come without the log-probabilities of chosen ids (`logprob_token_ids`)"


def _room(request: GenerateRequest, ends: Ends) -> int:
    limit = request.sampling.max_tokens
    return limit if ends.context is None else min(limit, ends.context - len(request.prompt))


def _call(served: Served, prompt: Sequence[int], sampling: Sampling, limit: int, seed: int, ends: Ends) -> Call:
    body: dict[str, Any] = {
        "model": served.model,
        "prompt": list(prompt),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if sampling.temperature else 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": limit,
        "stop_token_ids": list(ends.of(sampling)),
        "ignore_eos": True,
        "return_token_ids": True,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(index): max(_BAN, min(-_BAN, value)) for index, value in sampling.logit_bias.items()}
    if sampling.top_logprobs:
        body |= {"logprobs": sampling.top_logprobs, "return_tokens_as_token_ids": True}
    greedy = served.body.get("temperature", sampling.temperature) == 0
    return _sealed(served, body, prompt, limit, None if greedy else seed & _SEEDS)


def _sealed(served: Served, body: dict[str, Any], prompt: Sequence[int], limit: int, seed: int | None) -> Call:
    if seed is not None:
        body["seed"] = seed
    body = {name: value for name, value in (body | dict(served.body)).items() if value is not None}
    return Call(
        body=body,
        key=sha256({"tokens": FORMAT, "model": served.identity, "body": {**body, "model": None}, "seed": seed}),
        prompt_bytes=0,
        max_tokens=limit,
        path=PATH,
        prompt_tokens=len(prompt),
    )


def _scores(choice: Mapping[str, Any], call: Call) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    prompt, places = call.body["prompt"], choice.get("prompt_logprobs")
    if not isinstance(places, list) or len(places) != len(prompt):
        raise Lacking(NO_LOGPROBS)
    found = [_score(place, index) for place, index in zip(places[1:], prompt[1:], strict=True)]
    if last := call.body.get("logprob_token_ids"):
        top = _pairs(choice.get("logprobs"), 0)
        if last[0] not in top:
            raise Lacking(NO_CHOSEN)
        found.append((top[last[0]], choice["token_ids"][:1] == last))
    return tuple(value for value, _ in found), tuple(greedy for _, greedy in found)


def _score(place: Any, index: int) -> tuple[float, bool]:
    """The log-probability of one id of the prompt, and whether no other was likelier."""
    entry = place.get(str(index)) if isinstance(place, dict) else None
    value = entry.get("logprob") if isinstance(entry, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Malformed("a prompt's log-probabilities without one of its ids")
    return float(value), entry is not None and entry.get("rank") == 1


def _tops(logprobs: Any, count: int) -> tuple[Mapping[int, float], ...]:
    """Per new token its likeliest ids; the one that was drawn comes along even where it is none of them."""
    places = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
    numbers = range(len(places)) if isinstance(places, list) else range(0)
    ordered = (sorted(_pairs(logprobs, number).items(), key=lambda pair: -pair[1]) for number in numbers)
    return tuple(dict(pairs[:count]) for pairs in ordered)


def _pairs(logprobs: Any, number: int) -> dict[int, float]:
    places = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
    place = places[number] if isinstance(places, list) and number < len(places) else None
    named = place.items() if isinstance(place, dict) else ()
    return {
        int(name.removeprefix(_ID)): float(value)
        for name, value in named
        if name.startswith(_ID) and isinstance(value, int | float) and math.isfinite(value)
    }
