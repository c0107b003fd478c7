"""`sample`: a random part of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.values import Keep
from harness.select._bounds import Reasons
from harness.select._order import hashed

if TYPE_CHECKING:
    import pandas as pd


class Sample(Selector):
    """Keeps rows at random, from the data seed, the iteration and the row's id alone.

    Samples of one seed are nested: 5 % is part of 10 %. Reason: `not sampled`.
    """

    name: ClassVar[str] = "sample"
    random: ClassVar[bool] = True

    keep: Keep = identity(
        description="A share (10%) of the rows that came in, or a count; with `per`, of each tag value."
    )
    per: str | None = identity(
        None, description="A tag: sample each of its values by itself; rows without it are one more."
    )

    def needs(self) -> tuple[str, ...]:
        """The tag, if any."""
        return (f"tag:{self.per}",) if self.per else ()

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """The rows with the smallest seeded hashes, per stratum."""
        import pandas as pd

        order = hashed(table["id"], f"{context.seed}/{context.block}/{context.iteration}")
        strata = table[f"tag:{self.per}"] if self.per else pd.Series("", index=table.index)
        groups = pd.Series(order, index=table.index).groupby(strata.fillna("").to_numpy())
        rank, size = groups.rank(method="first"), groups.transform("size")
        allowed = size.map({n: self.keep.of(int(n)) for n in size.unique()})
        reasons = Reasons(len(table))
        reasons.mark(rank > allowed, "not sampled")
        return reasons.result()
