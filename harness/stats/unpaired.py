"""The difference between two sets of rows that have nothing in common, such as two recipes' training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import CannotTell
from harness.stats.estimate import CONFIDENCE

if TYPE_CHECKING:
    import numpy.typing as npt

LEAST = 5
"""With fewer rows on either side nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Unpaired:
    """First minus second, in the unit of the values; `p` is two-sided against 0 (Welch's t)."""

    value: float
    low: float
    high: float
    p: float
    first: int
    second: int


def unpaired(first: npt.ArrayLike, second: npt.ArrayLike, *, confidence: float = CONFIDENCE) -> Unpaired:
    """Welch's comparison of two means, rows being the sample.

    Args:
        first: (rows,), finite.
        second: (rows,), finite; of another length where it is so.
        confidence: of the interval.

    Raises:
        CannotTell: fewer than five rows on a side, or values that do not vary at all.
    """
    import numpy as np
    from scipy.stats import ttest_ind

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if min(a.size, b.size) < LEAST:
        raise CannotTell(f"{a.size} rows against {b.size}: at least {LEAST} on each side are needed")
    if not a.var() > 0 and not b.var() > 0:
        raise CannotTell("no row differs from another on either side, so the noise is not known")
    found = ttest_ind(a, b, equal_var=False)
    ends = found.confidence_interval(confidence)
    return Unpaired(
        value=float(a.mean() - b.mean()),
        low=float(ends.low),
        high=float(ends.high),
        p=float(found.pvalue),
        first=a.size,
        second=b.size,
    )
