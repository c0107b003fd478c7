"""Our requests as vLLM's, and its results as ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.engines.base import Completion, Finish, GenerateRequest, LogprobRequest, Logprobs, Sampling
from harness.engines.sampling import row_key
from harness.engines.stops import StopTexts
from harness.engines.texts import TokenTexts
from harness.engines.vllm.messages import Lora, Work, Written
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

HOTTEST = 2.0
"""vLLM takes no higher temperature."""
LAST_IDS = 128
"""Ids whose log-probability one request may ask for (vLLM's MAX_LOGPROB_TOKEN_IDS)."""
_SEEDS = 2**63 - 1
Places = list[tuple[GenerateRequest, int]]


def works_of(
    requests: Sequence[GenerateRequest], chat: ChatFormat, context: int, lora: Lora | None
) -> tuple[list[Work], Places]:
    """One work per draw, and per work its request and draw.

    Raises:
        UserError: a temperature that vLLM does not take.
    """
    works: list[Work] = []
    places: Places = []
    for request in requests:
        sampling, room = request.sampling, context - len(request.prompt)
        _check(request)
        own = chat.stop_ids if sampling.ends == "turn" else chat.end_ids
        settings = _settings(sampling, tuple(dict.fromkeys((*own, *sampling.stop_ids))), min(sampling.max_tokens, room))
        for draw in range(sampling.n):
            now, rest = _seeded(sampling, settings, row_key(request.seed, draw))
            works.append(Work(len(works), request.prompt, now, rest, lora))
            places.append((request, draw))
    return works, places


def _settings(sampling: Sampling, stops: tuple[int, ...], limit: int) -> dict[str, Any]:
    """The sampling parameters of vLLM, but for the seed. vLLM makes texts only where it must look for stops."""
    stop = [text for text in sampling.stop if text]
    found: dict[str, Any] = {
        "max_tokens": limit,
        "temperature": sampling.temperature,
        "stop_token_ids": list(stops),
        "detokenize": bool(stop),
    }
    if sampling.temperature > 0:
        found["top_p"] = sampling.top_p
    if stop:
        found["stop"] = stop
    if sampling.logit_bias:
        found["logit_bias"] = dict(sampling.logit_bias)
    if sampling.top_logprobs:
        found["logprobs"] = sampling.top_logprobs
    return found


def _seeded(sampling: Sampling, settings: Mapping[str, Any], key: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The settings of a draw: at once, or of its first token and of the rest where those differ.

    Then they are two requests of vLLM, the second with the first token at the end of its prompt (whose blocks are in
    the cache): its own logits processors know no step, and its two model runners have unlike interfaces for others.
    """
    rest = dict(settings)
    if not sampling.first_bans and sampling.first_temperature is None:
        return rest | _seed(rest, key), None
    first = dict(settings) | {"max_tokens": 1}
    if sampling.first_temperature is not None:
        first["temperature"] = sampling.first_temperature
        first.pop("top_p", None)
        if sampling.first_temperature > 0:
            first["top_p"] = sampling.top_p
    if sampling.first_bans:
        first["logit_bias"] = dict(sampling.logit_bias) | dict.fromkeys(sampling.first_bans, float("-inf"))
    first |= _seed(first, key)
    if settings["max_tokens"] == 1:
        return first, None
    rest["max_tokens"] -= 1
    return first, rest | _seed(rest, row_key(key, 1))


def _seed(settings: Mapping[str, Any], key: int) -> dict[str, int]:
    return {"seed": key & _SEEDS} if settings["temperature"] > 0 else {}


def _check(request: GenerateRequest) -> None:
    hottest = max(request.sampling.temperature, request.sampling.first_temperature or 0.0)
    if hottest > HOTTEST:
        raise UserError(
            f"request {request.id} asks for temperature {hottest:g}, and vLLM takes at most {HOTTEST:g}: lower it, "
            "or write `engine: transformers` for this model."
        )


class Answers:
    """Makes completions of what vLLM wrote. Texts are made here, as the transformers engine makes them."""

    def __init__(self, chat: ChatFormat) -> None:
        self._chat = chat
        self._cutter = StopTexts(chat.tokenizer, len(chat.tokenizer))
        self._names = TokenTexts(chat.tokenizer)

    def completion(self, request: GenerateRequest, draw: int, written: Written) -> Completion:
        """The completion of a draw; where a stop string is in it, it ends with the token that completed that."""
        ids, sampling = written.ids, request.sampling
        stops = frozenset(self._chat.stop_ids if sampling.ends == "turn" else self._chat.end_ids) | {*sampling.stop_ids}
        ended = written.stopped and ids[-1] in stops
        text = self._chat.decode(ids[:-1] if ended else ids)
        finish: Finish = "stop" if written.stopped else "length"
        if (cut := self._cutter.cut(text, sampling.stop)) is not None:
            ids, text, finish = self._through(ids, sampling.stop), cut, "stop"
        tops = written.tops[: len(ids)]
        return Completion(
            request_id=request.id,
            draw=draw,
            text=text,
            token_ids=tuple(ids),
            finish=finish,
            prompt_tokens=len(request.prompt),
            top_logprobs=tuple(tops),
            top_texts=tuple(self._names.of(top) for top in tops),
        )

    def _through(self, ids: list[int], stops: Sequence[str]) -> list[int]:
        """The ids up to the one that completed a stop string: the shortest beginning that holds one."""
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            if self._cutter.cut(self._chat.decode(ids[:middle]), stops) is None:
                low = middle + 1
            else:
                high = middle
        return ids[:low]


@dataclass
class Groups:
    """Requests to score that are read together: equal but for their last id."""

    trivial: list[LogprobRequest] = field(default_factory=list)
    """Those with nothing to score."""
    members: list[list[LogprobRequest]] = field(default_factory=list)

    def results(self, written: Written) -> Iterator[Logprobs]:
        """What a work tells of its requests."""
        for request in self.members[written.number]:
            last = request.ids[-1]
            values, greedy = [], []
            if written.read is not None:
                skipped = max(1, request.start) - 1
                values, greedy = written.read.values[skipped:], written.read.greedy[skipped:]
            yield Logprobs(
                request_id=request.id,
                values=np.asarray([*values, (written.asked or {})[last]], dtype=np.float32),
                greedy=np.asarray([*greedy, written.ids[0] == last], dtype=bool),
            )


def scored(requests: Sequence[LogprobRequest], lora: Lora | None) -> tuple[Groups, list[Work]]:
    """Works that score the requests.

    The last id is never read: its log-probability is that of the first new token. Only where ids before it are scored
    as well does vLLM compute those of the prompt, and then it reads no blocks from its cache.
    """
    groups, alike = Groups(), defaultdict[tuple[tuple[int, ...], bool, int], list[LogprobRequest]](list)
    seen: dict[tuple[tuple[int, ...], bool], dict[int, int]] = defaultdict(dict)
    for request in requests:
        if max(1, request.start) >= len(request.ids):
            groups.trivial.append(request)
            continue
        only_last = request.start >= len(request.ids) - 1
        lasts = seen[request.ids[:-1], only_last]
        part = lasts.setdefault(request.ids[-1], len(lasts)) // LAST_IDS
        alike[request.ids[:-1], only_last, part].append(request)
    works: list[Work] = []
    for (ids, only_last, _), members in alike.items():
        settings: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "detokenize": False}
        settings["logprob_token_ids"] = list(dict.fromkeys(request.ids[-1] for request in members))
        if not only_last:
            settings["prompt_logprobs"] = 1
        works.append(Work(len(works), ids, settings, None, lora))
        groups.members.append(members)
    return groups, works
