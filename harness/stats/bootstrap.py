"""The item bootstrap: how far the mean over these items may be from that over others, for given checkpoints.

It resamples questions only. Noise between training seeds is not in it, and cannot be: three seeds resampled cover far
too little (see docs/decisions/008-intervals.md). So it stands beside single checkpoints, never behind a verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import CannotTell
from harness.stats._values import Clusters, as_runs, joined, over_repeats
from harness.stats.estimate import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
_BATCH = 2_000_000
"""Draws held at once."""


def item_bootstrap(
    values: npt.ArrayLike, *, clusters: Clusters = None, confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987), items resampled.

    The same figures as `scipy.stats.bootstrap(..., method="BCa")` but for its random numbers: a mean needs only how
    often each distinct value is drawn, which is many times faster for grades.

    Args:
        values: (items,), (runs, items) or (runs, items, judge repeats), without missing ones; for a difference, the
            differences per item.
        clusters: per item, the question that it belongs to; whole questions are resampled.
        confidence: of the interval.
        seed: of the resampling.

    Returns:
        Low and high end; both the mean where all units are alike.

    Raises:
        CannotTell: a value is missing, or there is a single unit.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    means, _ = over_repeats(as_runs(values))
    if np.isnan(means).any():
        raise CannotTell("the bootstrap needs every grade: one that is missing could be anything")
    units = joined(means, clusters).mean(axis=0)
    if units.size < 2:
        raise CannotTell("a single item, or a single cluster of items, says nothing about others")
    centre = float(units.mean())
    away = units - centre
    if not np.abs(away).max() > 1e-12 * max(1.0, abs(centre)):
        return centre, centre
    drawn = np.sort(_resampled(units, seed))
    below = (np.searchsorted(drawn, centre, "left") + np.searchsorted(drawn, centre, "right")) / 2 / drawn.size
    bias = float(ndtri(below))
    skew = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    tails = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(drawn, ndtr(bias + tails / (1 - skew * tails)))
    return float(low), float(high)


def _resampled(units: Floats, seed: int) -> Floats:
    """Means of resamples, shape (RESAMPLES,)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(units, return_counts=True)
    if distinct.size <= units.size // 8:
        return np.asarray(rng.multinomial(units.size, counts / units.size, RESAMPLES) @ distinct / units.size)
    size = max(1, _BATCH // units.size)
    starts = range(0, RESAMPLES, size)
    picks = (rng.integers(0, units.size, (min(size, RESAMPLES - start), units.size)) for start in starts)
    return np.concatenate([units[pick].mean(axis=1) for pick in picks])
