"""`first`: one row per group, the first that comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.select._bounds import Reasons

if TYPE_CHECKING:
    import pandas as pd


class First(Selector):
    """Keeps the first row of each group, in the order in which rows come in.

    With `from: [better, kept]` it is "the better version where there is one": what the first source has wins.
    """

    name: ClassVar[str] = "first"

    per: Literal["group"] = identity(
        "group", description="What rows share: the group, i.e. alternatives to one prompt."
    )

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Reason: `not first of its group`."""
        reasons = Reasons(len(table))
        reasons.mark(table[self.per].duplicated(), f"not first of its {self.per}")
        return reasons.result()
