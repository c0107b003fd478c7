"""Typed limits on a score: the safe form of an expression such as `ifd < 1`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Bounds(BaseModel):
    """Limits that a score must keep; at least one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    below: float | None = Field(None, description="keeps scores < this")
    above: float | None = Field(None, description="keeps scores > this")
    max: float | None = Field(None, description="keeps scores <= this")
    min: float | None = Field(None, description="keeps scores >= this")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.below is self.above is self.max is self.min is None:
            raise ValueError("give at least one of below, above, max, min")
        return self

    def mark(self, name: str, values: pd.Series[float], reasons: Reasons) -> None:
        """Marks rows that break a limit with the breach (`ifd >= 1`), and those without a score (`ifd missing`)."""
        reasons.mark(values.isna(), f"{name} missing")
        if self.below is not None:
            reasons.mark(values >= self.below, f"{name} >= {self.below:g}")
        if self.above is not None:
            reasons.mark(values <= self.above, f"{name} <= {self.above:g}")
        if self.max is not None:
            reasons.mark(values > self.max, f"{name} > {self.max:g}")
        if self.min is not None:
            reasons.mark(values < self.min, f"{name} < {self.min:g}")


class Reasons:
    """Per row, the first reason to drop it; None while there is none."""

    def __init__(self, rows: int) -> None:
        import numpy as np

        self._reasons: np.ndarray = np.full(rows, None, dtype=object)
        self._kept: np.ndarray = np.ones(rows, dtype=bool)

    def mark(self, rows: Any, reason: str) -> None:
        """Gives a reason to the rows of a boolean mask (a Series or an array) that have none yet."""
        import numpy as np

        new = np.asarray(rows, dtype=bool) & self._kept
        self._reasons[new] = reason
        self._kept &= ~new

    def kept(self) -> np.ndarray:
        """Mask of the rows without a reason."""
        return self._kept

    def result(self) -> list[str | None]:
        """Decisions as a selector returns them."""
        decisions: list[str | None] = self._reasons.tolist()
        return decisions


def scores(table: pd.DataFrame, name: str) -> pd.Series[float]:
    """A score column as numbers; missing ones are NaN."""
    return table[name].astype(float)
