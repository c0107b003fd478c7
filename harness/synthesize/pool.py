"""`pool`: passes the rows that come in through unchanged, so a recipe may name the pool as one of its sources."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import ClassVar

from harness.blocks.kinds import Context, Drop, Item, Made, Reply, Request, Synthesizer
from harness.records.example import Example


class Pool(Synthesizer):
    """The rows as they are. With `as: name` and `from: pool` it gives the pool a name inside a recipe."""

    name: ClassVar[str] = "pool"
    random: ClassVar[bool] = False

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per row."""
        for row in rows:
            yield Item(id=row.id, row=row)

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Gives the row back; asks nothing."""
        yield from ()
        return [item.row] if item.row is not None else Drop("no row")
