"""The decode loop: many continuations side by side, each as if it were alone.

Rows wait in an order that depends on the requests only (those that may need most first). A batch takes as many as fit,
draws one token per row and step, lets finished rows go at once and takes waiting ones into their places. So no row
waits for the longest of its batch, and the same requests in the same order give the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.engines.base import Completion, GenerateRequest
from harness.engines.batch import Batch, Tables
from harness.engines.ledger import Row
from harness.engines.lengths import check_prompts
from harness.engines.limits import Limits, Room, out_of_memory
from harness.engines.sampling import entries, row_key
from harness.engines.stops import StopTexts, stop_table
from harness.engines.texts import TokenTexts
from harness.errors import Transient

if TYPE_CHECKING:
    from harness.engines.forward import Forward
    from harness.records.chat import ChatFormat


class Decoder:
    """Continues prompts with one model."""

    def __init__(self, forward: Forward, chat: ChatFormat, room: Room) -> None:
        self.forward, self.chat, self.room = forward, chat, room
        self._vocab = entries(forward.size, forward.device)
        self._texts = StopTexts(chat.tokenizer, forward.size)
        self._names = TokenTexts(chat.tokenizer)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        """Completions as they finish; n per request.

        Raises:
            Unservable: a prompt that is empty or leaves no room in the model's context, before anything is generated.
            Transient: one row alone does not fit into memory.
            UserError: the model's logits are not numbers.
        """
        check_prompts(requests, self.forward.context, self.forward.size)
        tables, waiting = self._tables(requests), _ordered(self._rows(requests))
        while waiting:
            limits = self.room.limits
            places = min(limits.rows_for(waiting[0].need), len(waiting))
            segment, waiting = _segment(waiting, limits)
            queue = deque(segment)
            batch = Batch(self.forward, self.chat, tables, places, limits, segment[0].need)
            while queue or batch.rows:
                try:
                    done = batch.turn(queue)
                except (RuntimeError, MemoryError) as error:
                    less = self._less(limits, error, places, segment[0].need)
                else:
                    yield from done
                    continue
                waiting = _ordered([*batch.rows, *queue, *waiting])
                del batch, segment, queue  # out of `except`, whose traceback holds tensors too
                self.room.shrink(*less)
                break

    def _less(self, limits: Limits, error: Exception, places: int, need: int) -> tuple[Limits, str]:
        """Smaller limits after memory ran out; rows that were under way start again and come out the same."""
        if not out_of_memory(error):
            raise error
        where = self.forward.device
        if places == 1:
            raise Transient(f"one row alone does not fit into the memory of {where}: {error}") from error
        less = replace(limits.halved(), rows=limits.rows, columns=places // 2 * need)
        return less, f"out of memory on {where} with {places} rows at once; going on with {places // 2}"

    def _tables(self, requests: Sequence[GenerateRequest]) -> Tables:
        own = {"turn": self.chat.stop_ids, "text": self.chat.end_ids}
        sets = [frozenset(r.sampling.stop_ids) | frozenset(own[r.sampling.ends]) for r in requests]
        stops, self._stop_of = stop_table(sets, self.forward.size)
        texts = list(dict.fromkeys([(), *(request.sampling.stop for request in requests)]))
        self._watch_of = {stop: number for number, stop in enumerate(texts)}
        watched = np.stack([self._texts.may_end(stop) if stop else np.zeros(self.forward.size, bool) for stop in texts])
        return Tables(self._vocab, stops, watched, self._texts, self._names)

    def _rows(self, requests: Sequence[GenerateRequest]) -> list[Row]:
        room = self.forward.context or 2**31
        return [
            Row(
                request=request,
                draw=draw,
                limit=min(request.sampling.max_tokens, room - len(request.prompt)),
                key=row_key(request.seed, draw),
                stop=stop,
                watch=self._watch_of[request.sampling.stop],
            )
            for request, stop in zip(requests, self._stop_of, strict=True)
            for draw in range(request.sampling.n)
        ]


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Those that may need most first: the store is largest at the start, and no long row is left alone at the end."""
    return sorted(rows, key=lambda row: (-row.need, -len(row.request.prompt)))


def _segment(rows: Sequence[Row], limits: Limits) -> tuple[list[Row], list[Row]]:
    """Rows that share one store, and the rest: those so much shorter that twice as many fit at once."""
    places = limits.rows_for(rows[0].need)
    cut = next((at for at, row in enumerate(rows) if limits.rows_for(row.need) >= 2 * places), len(rows))
    return list(rows[:cut]), list(rows[cut:])
