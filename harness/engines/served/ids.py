"""Requests by token ids: what is sent for them, and what a reply means by the model's own tokenizer.

Texts are decoded here, from ids, and cut here at stop strings: a server's detokenizer leaves other things out than
ours, and the same ids should be the same text whatever engine wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.engines.base import Completion, Finish, GenerateRequest, LogprobRequest, Logprobs
from harness.engines.lengths import Fault, Unservable, check_prompts, check_scored
from harness.engines.served.asking import Place, Work
from harness.engines.served.settings import Served
from harness.engines.served.tokens import Ends, apart, first_call, next_call, score_call
from harness.engines.served.wire import Call, Reply
from harness.engines.stops import StopTexts
from harness.engines.texts import TokenTexts
from harness.records.templates import settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from harness.records.chat import ChatFormat


@dataclass(frozen=True)
class Ids:
    """One served model whose tokenizer is known. `context` is the longest sequence, prompt and answer together."""

    served: Served
    chat: ChatFormat
    folder: Path
    context: int | None

    @cached_property
    def size(self) -> int:
        """Entries of the model's vocabulary, which may be more than the tokenizer knows."""
        settings = settings_of(self.folder, "config.json")
        settings = settings.get("text_config") or settings
        return int(settings.get("vocab_size") or 0) or len(self.chat.tokenizer)

    @cached_property
    def ends(self) -> Ends:
        return Ends(turn=self.chat.stop_ids, text=self.chat.end_ids, context=self.context)

    def faults(self, requests: Sequence[GenerateRequest]) -> dict[str, str]:
        """Requests that cannot be asked, by id, with the reason."""
        try:
            check_prompts(requests, self.context, self.size)
        except Unservable as error:
            return {fault.id: fault.reason for fault in error.faults.values()}
        return {}

    def works(self, requests: Sequence[GenerateRequest]) -> list[Work]:
        """One work per distinct call."""
        works: dict[str, Work] = {}
        for request in requests:
            alone = request.fresh or apart(request.sampling)
            for draw in range(request.sampling.n):
                call = first_call(self.served, request, draw, self.ends)
                name = f"{call.key} {request.id} {draw}" if alone else call.key
                work = works.setdefault(name, Work(call, [], request.fresh, self._follow(request, draw)))
                work.places.append(Place(request.id, draw))
        return list(works.values())

    def _follow(self, request: GenerateRequest, draw: int) -> _Follow | None:
        return _Follow(self, request, draw) if apart(request.sampling) else None

    def completion(self, request: GenerateRequest, place: Place, reply: Reply, usd: float) -> Completion:
        """What a reply is as an engine's completion."""
        sampling, ids = request.sampling, reply.token_ids
        stopped = bool(ids) and ids[-1] in self.ends.of(sampling)
        text = self.chat.decode(ids[:-1] if stopped else ids)
        cut = self._stops.cut(text, sampling.stop) if sampling.stop else None
        if cut is not None:
            ids, stopped = self._until(ids, sampling.stop), True
        finish: Finish = "stop" if stopped or reply.finish == "stop" else "length"
        tops = reply.top_ids[: len(ids)]
        return Completion(
            request_id=place.request,
            draw=place.draw,
            text=text if cut is None else cut,
            token_ids=ids,
            finish=finish,
            prompt_tokens=len(request.prompt),
            top_logprobs=tops,
            top_texts=tuple(self._names.of(top) for top in tops),
            usd=usd,
        )

    # --- given ids ----------------------------------------------------------------------------------------------------
    def score_works(self, requests: Sequence[LogprobRequest]) -> list[Work]:
        """One work per distinct sequence that has anything to score.

        Raises:
            Unservable: requests without tokens, too long, with foreign ids, or scored from beyond their end.
        """
        given = {r.id: r.ids for r in requests}
        check_scored(given, {r.id: r.start for r in requests}, self.context, self.size, unread=1)
        works: dict[tuple[int, ...], Work] = {}
        for request in requests:
            if max(1, request.start) < len(request.ids):
                work = works.get(request.ids) or Work(score_call(self.served, request, self.ends), [])
                works.setdefault(request.ids, work).places.append(Place(request.id))
        return list(works.values())

    def scored(self, request: LogprobRequest, reply: Reply | None) -> Logprobs:
        """The result of a request; without a reply, that of one with nothing to score."""
        first = max(1, request.start) - 1
        values = () if reply is None else reply.scores[first:]
        greedy = () if reply is None else reply.greedy[first:]
        return Logprobs(
            request_id=request.id, values=np.asarray(values, dtype=np.float32), greedy=np.asarray(greedy, dtype=bool)
        )

    # --- texts --------------------------------------------------------------------------------------------------------
    @cached_property
    def _stops(self) -> StopTexts:
        return StopTexts(self.chat.tokenizer, self.size)

    @cached_property
    def _names(self) -> TokenTexts:
        return TokenTexts(self.chat.tokenizer)

    def _until(self, ids: tuple[int, ...], stops: tuple[str, ...]) -> tuple[int, ...]:
        """Ids up to the one that completes a stop string: a server may have gone on for a few more."""
        lengths = range(1, len(ids) + 1)
        return ids[: next(n for n in lengths if self._stops.cut(self.chat.decode(ids[:n]), stops) is not None)]


@dataclass(frozen=True)
class _Follow:
    """What goes on after a first token that had rules of its own."""

    ids: Ids
    request: GenerateRequest
    draw: int

    def __call__(self, first: Reply) -> Call | None:
        text = self.ids.chat.decode(first.token_ids)
        return next_call(self.ids.served, self.request, self.draw, self.ids.ends, replace(first, text=text))


def unservable(refused: dict[str, str], requests: Sequence[LogprobRequest]) -> Unservable:
    """Requests that a server would not score."""
    lengths = {r.id: len(r.ids) for r in requests}
    return Unservable([Fault(name, lengths[name], reason) for name, reason in refused.items()])
