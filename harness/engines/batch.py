"""One batch of rows under way: prefill, one step, and what leaves it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.engines.base import Completion, Finish
from harness.engines.kv import Prefill, Slots
from harness.engines.ledger import Ledger, Row
from harness.engines.sampling import Sampler
from harness.engines.stops import StopTexts
from harness.engines.texts import TokenTexts
from harness.errors import UserError

if TYPE_CHECKING:
    import torch

    from harness.engines.forward import Forward
    from harness.engines.limits import Limits
    from harness.records.chat import ChatFormat

REFILL = 8
"""Waiting rows are taken in when one place in so many is free: a prefill of one row costs nearly as much as a step."""


@dataclass(frozen=True)
class Tables:
    """What all batches of one call share: the noise's vocabulary, stop ids (sets, V), tokens to watch (sets, V)."""

    vocab: torch.Tensor
    stops: np.ndarray
    watched: np.ndarray
    texts: StopTexts
    names: TokenTexts


class Batch:
    """Up to `places` rows; each `turn` either takes rows in or makes one step, and returns what finished in it.

    A turn that raises has changed nothing that matters: `rows` and the queue still hold every unfinished row.
    """

    def __init__(
        self, forward: Forward, chat: ChatFormat, tables: Tables, places: int, limits: Limits, need: int = 0
    ) -> None:
        """`need`: tokens that a row takes in the store at most."""
        import torch

        self._forward, self._chat, self._tables = forward, chat, tables
        self._places, self._budget, self._spared = places, limits.tokens, limits.spared
        # A GPU's limits are those of its memory, and a store that grows is there twice for a moment.
        self._slots = Slots(places, forward.device, need if forward.device.type == "cuda" else 0)
        self._ledger = Ledger(places)
        self._current = torch.zeros(0, dtype=torch.int64, device=forward.device)
        self._sampler: Sampler | None = None

    @property
    def rows(self) -> list[Row]:
        """Rows under way."""
        return self._ledger.rows

    def turn(self, queue: deque[Row]) -> list[Completion]:
        """Takes waiting rows in where enough places are free, else draws one token for every row."""
        import torch

        free = self._places - len(self.rows)
        with torch.inference_mode():
            if queue and (not self.rows or free * REFILL >= self._places):
                return self._admit(queue, free)
            return self._step()

    def _admit(self, queue: deque[Row], free: int) -> list[Completion]:
        """Reads the prompts of waiting rows and draws their first tokens; equal ones, and what all begin with, once."""
        import torch

        rows = _next(queue, free, self._budget)
        numbers = {prompt: at for at, prompt in enumerate(dict.fromkeys(row.request.prompt for row in rows))}
        source = [numbers[row.request.prompt] for row in rows]
        before = self._forward.beginning(list(numbers), self._spared, min(map(len, numbers)) - 1)
        keep = Prefill(before)
        ids, lengths = padded([prompt[keep.length() :] for prompt in numbers], self._forward.device)
        logits = self._forward.prefill(ids, lengths - 1, keep)
        if not bool(torch.isfinite(logits).all()):
            raise UserError(
                f"the model {self._chat.name} gives logits that are not finite: its weights are damaged or diverged."
            )
        if len(numbers) < len(rows):
            logits = logits[torch.tensor(source, device=logits.device)]
        sampler = self._sampling(rows, first=True)
        tokens = sampler.draw(logits, np.zeros(len(rows), dtype=np.int64))
        tops = _most_likely(logits, sampler.top_logprobs)
        new = len(self.rows)
        self._slots.place_for(len(rows[0].request.prompt))
        self._slots.insert(keep, [(at, len(row.request.prompt)) for at, row in zip(source, rows, strict=True)])
        self._current = torch.cat([self._current, tokens])
        self._ledger.add(rows, tokens.cpu().numpy())
        for row in rows:
            queue.popleft()
            row.tops.clear()
        self._sampler = None
        return self._leave(new, tops)

    def _step(self) -> list[Completion]:
        logits = self._forward.step(self._current, self._slots)
        self._slots.advance()
        if self._sampler is None:
            self._sampler = self._sampling(self.rows, first=False)
        tokens = self._sampler.draw(logits, self._ledger.steps[: len(self.rows)])
        tops = _most_likely(logits, self._sampler.top_logprobs)
        self._ledger.record(tokens.cpu().numpy())
        self._current = tokens
        return self._leave(0, tops)

    def _sampling(self, rows: Sequence[Row], first: bool) -> Sampler:
        keys = np.asarray([row.key for row in rows], dtype=np.uint64)
        return Sampler([row.request.sampling for row in rows], keys, self._tables.vocab, first)

    def _leave(self, new: int, tops: list[dict[int, float]] | None) -> list[Completion]:
        """Lets finished rows go; rows from `new` on have just drawn a token, with `tops` likely ones beside it."""
        rows, ledger, tables = self.rows, self._ledger, self._tables
        for row, top in zip(rows[new:], tops or (), strict=tops is not None):
            if count := row.request.sampling.top_logprobs:
                row.tops.append(dict(list(top.items())[:count]))
        last = ledger.last(new)
        stopped = tables.stops[ledger.stop[new : len(rows)], last]
        done = stopped | (ledger.steps[new : len(rows)] >= ledger.limits[new : len(rows)])
        texts: dict[int, str] = {}
        if len(tables.watched) > 1:
            texts = self._cut(new + np.flatnonzero(tables.watched[ledger.watch[new : len(rows)], last] & ~stopped))
            done[[row - new for row in texts]] = True
        if not done.any():
            return []
        leaving = [new + int(row) for row in np.flatnonzero(done)]
        completions = [self._completion(row, bool(stopped[row - new]), texts.get(row)) for row in leaving]
        self._keep(sorted(set(range(len(rows))) - set(leaving)))
        return completions

    def _cut(self, rows: Sequence[int] | np.ndarray) -> dict[int, str]:
        """Rows that have written one of their stop strings, with the text before it."""
        found = {}
        for row in rows:
            text = self._chat.decode(self._ledger.written(row))
            cut = self._tables.texts.cut(text, self.rows[row].request.sampling.stop)
            if cut is not None:
                found[int(row)] = cut
        return found

    def _completion(self, at: int, stopped: bool, text: str | None) -> Completion:
        row, ids = self.rows[at], self._ledger.written(at)
        finish: Finish = "stop" if stopped or text is not None else "length"
        return Completion(
            request_id=row.request.id,
            draw=row.draw,
            text=self._chat.decode(ids[:-1] if stopped else ids) if text is None else text,
            token_ids=tuple(ids),
            finish=finish,
            prompt_tokens=len(row.request.prompt),
            top_logprobs=tuple(row.tops),
            top_texts=tuple(self._tables.names.of(top) for top in row.tops),
        )

    def _keep(self, staying: Sequence[int]) -> None:
        moves = self._slots.keep(staying)
        self._ledger.keep(len(staying), moves)
        for old, new in moves:
            self._current[new] = self._current[old]
        self._current = self._current[: len(staying)]
        self._sampler = None


def padded(rows: Sequence[Sequence[int]], device: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids (n, T) and lengths (n,), on a device. The padding is token 0, which no real position sees."""
    import torch

    lengths = np.asarray([len(row) for row in rows], dtype=np.int64)
    ids = np.zeros((len(rows), int(lengths.max())), dtype=np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
    return torch.from_numpy(ids).to(device), torch.from_numpy(lengths).to(device)


def _next(queue: deque[Row], free: int, budget: int) -> list[Row]:
    """The first waiting rows whose distinct prompts, padded, fit the token budget (at least one), longest first."""
    rows: list[Row] = []
    distinct: set[tuple[int, ...]] = set()
    longest = 0
    for row in queue:
        prompt = row.request.prompt
        longest = max(longest, len(prompt))
        distinct.add(prompt)
        if len(rows) == free or (rows and len(distinct) * longest > budget):
            break
        rows.append(row)
    return sorted(rows, key=lambda row: -len(row.request.prompt))


def _most_likely(logits: torch.Tensor, count: int) -> list[dict[int, float]] | None:
    """Per row the `count` most likely ids with their log-probabilities, best first, before temperature and biases."""
    if not count:
        return None
    values, ids = logits.log_softmax(-1).topk(min(count, logits.shape[-1]), -1)
    return [dict(zip(i, v, strict=True)) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]
