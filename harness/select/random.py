"""`random`: a score without meaning, for the arm that every selection method is compared with."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import ClassVar

from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer
from harness.records.example import Example


class Random(Scorer):
    """Column `random`: uniform in [0, 1), from the data seed, the iteration and the row's id alone."""

    name: ClassVar[str] = "random"
    random: ClassVar[bool] = True

    def columns(self) -> tuple[str, ...]:
        """One column."""
        return ("random",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Draws one number per row; asks nothing."""
        yield from ()
        return {"random": [context.rng(row.id).random() for row in batch]}
