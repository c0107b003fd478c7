"""`threshold`: the rows whose score keeps a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.select._bounds import Bounds, Reasons, scores

if TYPE_CHECKING:
    import pandas as pd


class Threshold(Selector):
    """Keeps rows whose score lies within limits. Reasons: `<score> missing`, or the broken limit (`prefer < 0.8`)."""

    name: ClassVar[str] = "threshold"
    row_by_row: ClassVar[bool] = True

    by: str = identity(description="The score that is limited.")
    min: float | None = identity(None, allow_inf_nan=False, description="Keeps scores from this on.")
    max: float | None = identity(None, allow_inf_nan=False, description="Keeps scores up to this.")
    below: float | None = identity(None, allow_inf_nan=False, description="Keeps scores smaller than this.")
    above: float | None = identity(None, allow_inf_nan=False, description="Keeps scores larger than this.")

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        self._bounds()
        return self

    def needs(self) -> tuple[str, ...]:
        """The one score."""
        return (self.by,)

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Each row by itself."""
        reasons = Reasons(len(table))
        self._bounds().mark(self.by, scores(table, self.by), reasons)
        return reasons.result()

    def _bounds(self) -> Bounds:
        return Bounds(min=self.min, max=self.max, below=self.below, above=self.above)
