"""Kinds of block that make, score, select and pair rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

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
    shard: ClassVar[int | None] = None
    """Items that are saved together while the stage runs, where an item is much work; None: as many as for others."""
    in_turn: ClassVar[bool] = False
    """True where an item needs what the items before it made: they are worked on one by one, each saved when it is
    done, and `context.earlier` holds what became of all before it."""

    def uses_feedback(self) -> bool:
        """True where these options read the last dev evaluation."""
        return False

    def enough(self, context: Context) -> bool:
        """Of a block that is `in_turn`: True where `context.earlier` holds all that is wanted.

        It is asked after each item; the items after it are then left out.
        """
        return False

    @abstractmethod
    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """The work to do, in a fixed order."""

    @abstractmethod
    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Yields asks, receives replies, returns examples (a dropped one with its reason), or why there are none."""


Columns = Mapping[str, Sequence[Any]]
"""Column name to one value per row, None where it is missing.

A plain name is a score (a number), `tag:<name>` a text that ends in `Example.tags`, `field:<name>` any JSON value that
ends in `Example.fields` (a judge's raw text, say), `vector:<name>` a float32 vector of one width, which stays in the
table: it is read only by what names it in `needs()`.
"""


class Scorer(Block):
    """Adds columns; never drops a row. A row that cannot be scored gets None."""

    kind: ClassVar[Kind] = "score"

    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that `score` gives: scores, `tag:<name>`, `field:<name>`, `vector:<name>`."""

    @abstractmethod
    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Scores one batch: yields asks where it needs a model (else `yield from ()`), returns aligned columns."""


class TableScorer(Scorer):
    """A scorer that must see all rows at once (neighbours, clusters, percentiles). It asks no model."""

    def needs(self) -> tuple[str, ...]:
        """Columns that `score_table` reads besides id and group, as a selector's.

        `vector:<name>` comes as `context.vectors["<name>"]`, not in the table.
        """
        return ()

    @abstractmethod
    def score_table(self, table: pd.DataFrame, context: Context) -> Columns:
        """Columns aligned with the rows of the table."""

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """The batch as if it were the whole table; vectors are those of the context."""
        from harness.records.columns import VECTOR
        from harness.records.table import frame_of

        yield from ()
        plain = [name for name in self.needs() if not name.startswith(VECTOR)]
        return self.score_table(frame_of(batch, list(dict.fromkeys(("id", "group", *plain)))), context)


class Selector(Block):
    kind: ClassVar[Kind] = "select"
    row_by_row: ClassVar[bool] = False
    """True where each row is decided by itself: `select` is then given one part of the table after the other."""

    def needs(self) -> tuple[str, ...]:
        """Columns that `select` reads besides id and group.

        Scores, `tag:<name>`, `field:<name>`, prompt, prompt_key (16 bytes that are the same for the same prompt, white
        space and case aside), answer, digest, weight. `vector:<name>` comes as `context.vectors["<name>"]`, not in the
        table.
        """
        return ()

    @abstractmethod
    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Per row, in order: None keeps it, a short stable text drops it for that reason."""


class PartSelector(Selector):
    """A selector that sees all rows, but one part of the table after the other: of many it holds what it must only."""

    @abstractmethod
    def decide(self, parts: Iterable[pd.DataFrame], context: Context) -> list[str | None]:
        """As `select`, of the rows of all parts. They are read once, in order; `context.scratch` may hold the rest."""

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """The table as the only part."""
        return self.decide([table], context)


class PairBuilder(Block):
    kind: ClassVar[Kind] = "pair"
    may_be_empty: ClassVar[bool] = False
    """True where no pair at all is a finding that the trainer deals with, not a failed stage."""

    @abstractmethod
    def pair(self, rows: Iterable[Example], context: Context) -> Iterator[Example | Dropped]:
        """Examples with `rejected` set; rows that give no pair come out as Dropped with the reason."""
