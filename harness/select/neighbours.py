"""`neighbours`: how far each row is from the one most like it, and which rows say nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Columns, Context, TableScorer
from harness.records.values import Count
from harness.select._nearest import Found, Units, exactly, nearly

if TYPE_CHECKING:
    import pandas as pd

FEW = 16
"""Neighbours looked up at first; only rows with more near ones than that are looked up again."""


class Neighbours(TableScorer):
    """Distance to the nearest other row, and repeats, by vectors that a step before (`embed`) wrote.

    Distances are squared L2 between unit vectors, as in the released code: 2 - 2 cos, so 0.05 is a cosine of 0.975.
    Rows without a vector get None everywhere. Columns:

    * `distance`: to the nearest other row; exactly 0 for equal vectors.
    * `repeats`: number of other rows nearer than `near`. The released code looks at 500 neighbours, so its counts end
      at 499; here all are counted, unless `most` says otherwise.
    * `tag:similar`: the released rule: the id of the first row that is this near, if it stands before this row, else
      the row's own id; None where no other row is this near. Of A ~ B ~ C with A unlike C, it drops B and C.
    * `tag:cluster`: the greedy rule: the id of the earliest kept row that is this near, the row's own where rows are
      dropped for it; None where it has no repeats. Of A ~ B ~ C with A unlike C, C stays.

    `{select: originals, by: similar}` (or `cluster`) then keeps one row of each. Vectors are read in parts: they need
    not fit into memory.
    """

    name: ClassVar[str] = "neighbours"
    version: ClassVar[int] = 2

    vector: str = identity("embedding", description="Name of the vectors that are compared.")
    near: float = identity(
        0.05, gt=0, description="Squared distance below which rows are repeats.", source="released code, data_filter"
    )
    most: Count | None = identity(
        None, description="Neighbours looked at per row, the row itself included; the released code: 500."
    )
    index: Literal["flat", "hnsw"] = identity(
        "flat",
        description="`flat` compares all rows with all; `hnsw`, for a million rows and more, is approximate: a graph "
        "over vectors in half precision.",
    )
    column: str = identity("", description="Put before the names of the columns.", pattern=r"[\w-]*")

    def needs(self) -> tuple[str, ...]:
        """The vectors alone."""
        return (f"vector:{self.vector}",)

    def columns(self) -> tuple[str, ...]:
        """Two scores and two tags."""
        own = self.column
        return (f"{own}distance", f"{own}repeats", f"tag:{own}similar", f"tag:{own}cluster")

    def score_table(self, table: pd.DataFrame, context: Context) -> Columns:
        """Looks up every row; what is held of the others is their distances, not their vectors."""
        import numpy as np

        units = Units(context.vectors[self.vector])
        ids = table["id"].to_numpy(dtype=object)[units.places]
        columns: dict[str, list[Any]] = {name: [None] * len(table) for name in self.columns()}
        distance, repeats, similar, cluster = columns.values()
        kept = np.zeros(len(units), dtype=bool)
        for row, (found, apart) in enumerate(self._neighbours(units)):
            place = int(units.places[row])
            near = found[apart < self.near]
            distance[place] = float(apart.min()) if len(apart) else None
            repeats[place] = float(len(near))
            before = near[near < row]
            leader = int(before[kept[before]].min(initial=row))
            kept[row] = leader == row
            if len(near):
                similar[place], cluster[place] = str(ids[min(row, near.min())]), str(ids[leader])
        self._report(context, [value for value in distance if value is not None], len(units) - int(kept.sum()))
        return columns

    def _report(self, context: Context, distances: list[float], repeated: int) -> None:
        context.count(f"{self.column}repeats of a kept row", repeated)
        if distances:
            context.figure(f"{self.column}mean distance", sum(distances) / len(distances))

    def _neighbours(self, units: Units) -> Iterator[Found]:
        """Per row, others (those that are near among them) with their distances."""
        look = min(len(units), max(2, min(FEW, self.most or FEW)))
        return (exactly if self.index == "flat" else nearly)(units, look, self.near, self.most)
