"""`longest`: the rows with the longest answers, of those whose answers have an end (Magpie's last filter)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.cut import CUT_ANSWER
from harness.records.values import Keep
from harness.select._bounds import Reasons, scores

if TYPE_CHECKING:
    import pandas as pd

CUT = "cut by the length cap"


class Longest(Selector):
    """Keeps the `keep` rows with the highest score `by`, by default the length that `score: length` gave.

    Rows whose answer hit the length cap are left out first: a model that repeats itself until it is stopped writes the
    longest answers of all, and the released code, which knows no finish reasons, prefers them. `keep_cut` lets them
    compete, as there. Equal lengths are kept in the order in which the rows came (a stable sort). Reasons: `cut by the
    length cap`, `<score> missing`, `rank`.
    """

    name: ClassVar[str] = "longest"

    keep: Keep = identity(
        description="A share (10%) of the rows that came in, or a count.", source="2406.08464 Table 5"
    )
    by: str = identity("length", description="The score that says how long.", source="2406.08464: characters")
    keep_cut: bool = identity(False, description="Let answers that hit the length cap compete, as the released code.")

    def needs(self) -> tuple[str, ...]:
        """The length, and whether the answer was cut."""
        return (self.by,) if self.keep_cut else (self.by, f"field:{CUT_ANSWER}")

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Cut rows first, then ranks."""
        reasons = Reasons(len(table))
        if not self.keep_cut:
            reasons.mark(table[f"field:{CUT_ANSWER}"].eq(True), CUT)
        keep_longest(scores(table, self.by), self.by, self.keep.of(len(table)), reasons)
        return reasons.result()


def keep_longest(values: pd.Series[float], name: str, count: int, reasons: Reasons) -> None:
    """Marks all but the `count` highest of the rows that have no reason yet; equal ones stay in their order."""
    import numpy as np

    reasons.mark(values.isna(), f"{name} missing")
    left = np.flatnonzero(reasons.kept())
    order = left[np.argsort(-values.to_numpy()[left], kind="stable")]
    beyond = np.zeros(len(values), dtype=bool)
    beyond[order[count:]] = True
    reasons.mark(beyond, "rank")
