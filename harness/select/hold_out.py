"""`hold_out`: leaves out the prompts that preference training holds out, for arms that are compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.held import held_out
from harness.records.values import Share

if TYPE_CHECKING:
    import pandas as pd


class HoldOut(Selector):
    """Drops the rows whose prompt `dpo` with `held_out` of the same share never trains on: `held out`.

    Which prompts they are follows from the row's group alone, so it is the same in every iteration, seed and recipe:
    an arm without preference training then learns from the same prompts as the arm that it controls.
    """

    name: ClassVar[str] = "hold_out"
    row_by_row: ClassVar[bool] = True

    share: Share = identity(description="Share of the prompts that are left out: the `held_out` of the other arm.")

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Prompt by prompt."""
        return ["held out" if held_out(group, self.share) else None for group in table["group"]]
