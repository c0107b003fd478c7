"""Kinds of block that make, score, select and pair rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import Block, Kind
from harness.blocks.given import Context, Item
from harness.blocks.requests import Made, Reply, Request
from harness.records.example import Dropped, Example

if TYPE_CHECKING:
    import pandas as pd


class Synthesizer(Block):
    kind: ClassVar[Kind] = "synthesize"
    random: ClassVar[bool] = True
    reads_rows: ClassVar[bool] = True
    """False where the block makes rows from nothing (Magpie)."""

    def uses_feedback(self) -> bool:
        """True where these options read the last dev evaluation."""
        return False

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """The work to do, in a fixed order."""
        raise NotImplementedError

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Yields asks, receives replies, returns examples (a dropped one with its reason), or why there are none."""
        raise NotImplementedError


Columns = Mapping[str, Sequence[float | None]]


class Scorer(Block):
    """Adds score columns; never drops a row. A row that cannot be scored gets None."""

    kind: ClassVar[Kind] = "score"

    def columns(self) -> tuple[str, ...]:
        """Names of the score columns that `score` gives."""
        raise NotImplementedError

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Scores one batch: yields asks where it needs a model (else `yield from ()`), returns aligned columns."""
        raise NotImplementedError


class Selector(Block):
    kind: ClassVar[Kind] = "select"

    def needs(self) -> tuple[str, ...]:
        """Columns that `select` reads besides id and group: scores, `tag:<name>`, prompt, answer, digest, weight."""
        return ()

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Per row, in order: None keeps it, a short stable text drops it for that reason."""
        raise NotImplementedError


class PairBuilder(Block):
    kind: ClassVar[Kind] = "pair"

    def pair(self, rows: Iterable[Example], context: Context) -> Iterator[Example | Dropped]:
        """Examples with `rejected` set; rows that give no pair come out as Dropped with the reason."""
        raise NotImplementedError
