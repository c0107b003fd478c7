"""The decode loop: many continuations side by side, each as if it were alone.

Rows wait in an order that depends on the requests only (those that may need most first). A batch takes as many as fit,
draws one token per row and step, lets finished rows go at once and takes waiting ones into their places. So no row
waits for the longest of its batch, and the same requests in the same order give the same bytes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.engines.base import Completion, GenerateRequest, Sampling
from harness.engines.kv import Prefill, Slots
from harness.engines.ledger import Ledger, Row
from harness.engines.limits import Limits, out_of_memory
from harness.engines.sampling import Sampler, entries, row_key
from harness.engines.stops import StopTexts, stop_table
from harness.errors import Transient, UserError

if TYPE_CHECKING:
    import torch

    from harness.engines.forward import Forward
    from harness.records.chat import ChatFormat

log = logging.getLogger(__name__)

REFILL = 8
"""Waiting rows are taken in when this fraction (1/8) of the places is free: a prefill of few rows costs as much as a step."""


class Decoder:
    """Continues prompts with one model."""

    def __init__(self, forward: Forward, chat: ChatFormat, limits: Limits) -> None:
        self.forward, self.chat, self.limits = forward, chat, limits
        self.size = int(forward.model.config.get_text_config().vocab_size)
        self.vocab = entries(self.size, forward.device)
        self.texts = StopTexts(chat.tokenizer, self.size)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        """Completions as they finish; n per request.

        Raises:
            UserError: a prompt that is empty or leaves no room in the model's context, before anything is generated.
            Transient: one row alone does not fit into memory.
        """
        rows = self._rows(requests)
        rows.sort(key=lambda row: (-row.need, -len(row.request.prompt)))
        limits, waiting = self.limits, deque(rows)
        batch = self._batch(limits, waiting, rows)
        while waiting or batch.ledger.rows:
            try:
                done = batch.turn(waiting)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                limits = self._less(limits, error)
                waiting = deque(sorted([*batch.ledger.rows, *waiting], key=lambda row: (-row.need, -len(row.request.prompt))))
                batch.close()
                batch = self._batch(limits, waiting, rows)
                continue
            yield from done
            if waiting and batch.grows(limits, waiting[0]):
                batch = self._batch(limits, waiting, rows)

    def _batch(self, limits: Limits, waiting: deque[Row], rows: Sequence[Row]) -> Batch:
        places = limits.rows_for(waiting[0].need) if waiting else 1
        return Batch(self, min(places, max(1, len(waiting))), limits.tokens)

    def _less(self, limits: Limits, error: BaseException) -> Limits:
        less = limits.halved()
        if less is None:
            raise Transient(f"one row alone does not fit into the memory of {self.forward.device}: {error}") from error
        log.warning("out of memory on %s with %d rows at once: going on with %d", self.forward.device, limits.rows, less.rows)
        return less

    def _rows(self, requests: Sequence[GenerateRequest]) -> list[Row]:
        context = self.forward.context or 2**31
        too_long = [r for r in requests if not 0 < len(r.prompt) < context]
        if too_long:
            raise PromptTooLong(too_long, context)
        sets = [frozenset(r.sampling.stop_ids) | frozenset(self.chat.stop_ids) for r in requests]
        self.stops, stop_of = stop_table(sets, self.size)
        texts = {(): 0} | {stops: 0 for r in requests if (stops := r.sampling.stop)}
        self.watched = np.zeros((len(texts), self.size), dtype=bool)
        for number, stops in enumerate(texts):
            texts[stops] = number
            if stops:
                self.watched[number] = self.texts.may_end(stops)
        return [
            Row(r, draw, min(r.sampling.max_tokens, context - len(r.prompt)), row_key(r.seed, draw), stop, texts[r.sampling.stop])
            for r, stop in zip(requests, stop_of, strict=True)
            for draw in range(r.sampling.n)
        ]
