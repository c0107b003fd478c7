"""What the host knows about the rows of a decode batch, as arrays, so that a step costs no Python per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.engines.base import GenerateRequest

ROOM = 64


@dataclass
class Row:
    """One continuation to make: draw `draw` of a request, of at most `limit` new tokens."""

    request: GenerateRequest
    draw: int
    limit: int
    key: int
    stop: int
    """Row of the stop-id table."""
    watch: int
    """Row of the table of tokens that can complete a stop string; 0 where there is none."""
    tops: list[Mapping[int, float]] = field(default_factory=list)

    @property
    def need(self) -> int:
        """Tokens that the row takes in the store at most."""
        return len(self.request.prompt) + self.limit


class Ledger:
    """Active rows in the order of the store; row i here is row i there."""

    def __init__(self, rows: int) -> None:
        self.rows: list[Row] = []
        self.keys = np.zeros(rows, dtype=np.uint64)
        self.steps = np.zeros(rows, dtype=np.int64)
        self.limits = np.zeros(rows, dtype=np.int64)
        self.stop = np.zeros(rows, dtype=np.int64)
        self.watch = np.zeros(rows, dtype=np.int64)
        self.tokens = np.zeros((rows, ROOM), dtype=np.int32)
        self._index = np.arange(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Sequence[Row], tokens: np.ndarray) -> None:
        """Appends rows that have drawn their first token."""
        here = slice(len(self.rows), len(self.rows) + len(rows))
        self.keys[here] = np.asarray([row.key for row in rows], dtype=np.uint64)
        self.limits[here] = [row.limit for row in rows]
        self.stop[here] = [row.stop for row in rows]
        self.watch[here] = [row.watch for row in rows]
        self.tokens[here, 0] = tokens
        self.steps[here] = 1
        self.rows.extend(rows)

    def record(self, tokens: np.ndarray) -> None:
        """Appends one token to every row."""
        n = len(self.rows)
        if int(self.steps[:n].max()) >= self.tokens.shape[1]:
            self.tokens = np.concatenate([self.tokens, np.zeros_like(self.tokens)], axis=1)
        self.tokens[self._index[:n], self.steps[:n]] = tokens
        self.steps[:n] += 1

    def last(self, new: int) -> np.ndarray:
        """The newest token of each row from `new` on."""
        here = slice(new, len(self.rows))
        return np.asarray(self.tokens[self._index[here], self.steps[here] - 1])

    def written(self, row: int) -> list[int]:
        """All tokens of a row so far."""
        ids: list[int] = self.tokens[row, : self.steps[row]].tolist()
        return ids

    def keep(self, count: int, moves: Sequence[tuple[int, int]]) -> None:
        """Follows the moves (from, to) of the store and forgets all rows from `count` on."""
        for old, new in moves:
            self.rows[new] = self.rows[old]
            for column in (self.keys, self.steps, self.limits, self.stop, self.watch, self.tokens):
                column[new] = column[old]
        del self.rows[count:]
