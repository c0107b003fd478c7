"""`top`: the rows with the highest (or lowest) score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.values import Keep
from harness.select._bounds import Bounds, Reasons, scores
from harness.select._order import hashed

if TYPE_CHECKING:
    import pandas as pd


class Top(Selector):
    """Keeps the best rows by one score, after typed limits on any scores.

    A share is of all rows that came in, before `where`, or with `of: survivors` of those that `where` leaves: released
    IFD selectors do either. A share that comes to no row keeps none, which fails the stage and says so (the first
    released script keeps all then). Reasons: `<score> missing`, the broken limit (`ifd >= 1`), and `rank`. Ties are
    broken by a hash of the row's id, so neither the order of a file nor the number of batches matters.
    """

    name: ClassVar[str] = "top"

    by: str = identity(description="The score to rank by.")
    keep: Keep = identity(description="A share (10%) of the rows that came in, or a count.")
    where: Mapping[str, Bounds] = identity(
        {}, description="Limits per score: below, above, min, max.", source="2308.12032 §2.2: ifd below 1"
    )
    of: Literal["all", "survivors"] = identity(
        "all",
        description="What a share is of: all rows that came in, or those that have the score and keep the limits.",
        source="2308.12032 code: survivors in data_by_IFD.py, all in select_from_ifd_json.py",
    )
    ascending: bool = identity(False, description="Keep the lowest scores instead of the highest.")

    def needs(self) -> tuple[str, ...]:
        """The scores named."""
        return tuple(dict.fromkeys((self.by, *self.where)))

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Limits first, then ranks; one sort over the scores alone."""
        import numpy as np

        reasons, values = Reasons(len(table)), scores(table, self.by)
        reasons.mark(values.isna(), f"{self.by} missing")
        for name, bounds in self.where.items():
            bounds.mark(name, scores(table, name), reasons)
        left = np.flatnonzero(reasons.kept())
        ranked = values.to_numpy()[left] * (1 if self.ascending else -1)
        order = left[np.lexsort((hashed(table["id"].iloc[left]), ranked))]
        beyond = np.zeros(len(table), dtype=bool)
        beyond[order[self.keep.of(len(table) if self.of == "all" else len(left)) :]] = True
        reasons.mark(beyond, "rank")
        return reasons.result()
