"""`tagged`: the rows that have a tag, or certain values of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.select._bounds import Reasons

if TYPE_CHECKING:
    import pandas as pd


class Tagged(Selector):
    """Keeps rows by a tag. Reasons: `<tag> missing` (a label that could not be read, say) and `<tag> not wanted`.

    Before `sample` with `per`, it keeps rows without the tag from being a stratum of their own.
    """

    name: ClassVar[str] = "tagged"
    row_by_row: ClassVar[bool] = True

    by: str = identity(description="The tag, such as category.")
    values: tuple[str, ...] = identity((), description="The values that are wanted; by default any.")

    def needs(self) -> tuple[str, ...]:
        """The one tag."""
        return (f"tag:{self.by}",)

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Each row by itself."""
        tags, reasons = table[f"tag:{self.by}"], Reasons(len(table))
        reasons.mark(tags.isna(), f"{self.by} missing")
        if self.values:
            reasons.mark(~tags.isin(self.values), f"{self.by} not wanted")
        return reasons.result()
