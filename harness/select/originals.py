"""`originals`: one row of each cluster of repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.select._bounds import Reasons

if TYPE_CHECKING:
    import pandas as pd


class Originals(Selector):
    """Keeps rows whose tag names no row, or the row itself; drops those that repeat another. Reason: `repeat`.

    The tags are those of `neighbours`: `cluster` (of rows that are near each other the earliest stays, and what is near
    a dropped one only stays too) or `similar` (the released rule, which drops such rows as well).
    """

    name: ClassVar[str] = "originals"
    row_by_row: ClassVar[bool] = True

    by: str = identity("cluster", description="The tag that holds the id of the row that is repeated.")

    def needs(self) -> tuple[str, ...]:
        """The tag."""
        return (f"tag:{self.by}",)

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Each row by its own tag."""
        named = table[f"tag:{self.by}"]
        reasons = Reasons(len(table))
        reasons.mark(named.notna() & (named != table["id"]), "repeat")
        return reasons.result()
