"""How well a score tells rows of one kind from others: the area under the ROC curve, with its uncertainty."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import CannotTell
from harness.stats.estimate import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
LEAST = 5
"""With fewer rows of either kind nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Auroc:
    """`value`: the probability that a marked row scores higher than another, ties counting half; 0.5 tells nothing.

    `p` is two-sided against 0.5: the larger of the bootstrap's normal approximation and Mann and Whitney's test.
    """

    value: float
    low: float
    high: float
    p: float
    marked: int
    others: int


def auroc(
    scores: npt.ArrayLike,
    marked: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Auroc:
    """The area with a percentile bootstrap interval, clusters resampled whole.

    Args:
        scores: (rows,), finite.
        marked: (rows,), true for the rows that the score should find.
        clusters: per row, what joins rows that are not independent, such as copies of one row.
        confidence: of the interval.
        seed: of the resampling.

    Raises:
        CannotTell: fewer than five rows of either kind.
        ValueError: arrays of different length, or a score that is no finite number.
    """
    import numpy as np
    from scipy.special import ndtr
    from scipy.stats import mannwhitneyu

    values, mark = np.asarray(scores, dtype=np.float64), np.asarray(marked, dtype=bool)
    if values.shape != mark.shape or values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("scores and marks need one finite score and one mark for each row")
    count, rest = int(mark.sum()), int((~mark).sum())
    if min(count, rest) < LEAST:
        raise CannotTell(f"{count} marked rows and {rest} others: at least {LEAST} of each are needed")
    test = mannwhitneyu(values[mark], values[~mark], method="asymptotic")
    value = float(test.statistic) / (count * rest)
    drawn = _resampled(values, mark, clusters, seed)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    error = float(drawn.std(ddof=1))
    normal = 2 * float(ndtr(-abs(value - 0.5) / error)) if error > 0 else 0.0
    p = max(normal, float(test.pvalue)) if value != 0.5 else 1.0
    return Auroc(value=value, low=min(float(low), value), high=max(float(high), value), p=p, marked=count, others=rest)


def _resampled(values: Floats, marked: npt.NDArray[np.bool_], clusters: Sequence[Hashable] | None, seed: int) -> Floats:
    """The area in resamples, shape (RESAMPLES,). A resample weights rows, so the scores are ranked only once."""
    import numpy as np

    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys(clusters)) if clusters is not None else []
    place = {name: index for index, name in enumerate(names)}
    member = np.arange(values.size) if clusters is None else np.array([place[name] for name in clusters])
    size = int(member.max()) + 1
    distinct, rank = np.unique(values, return_inverse=True)
    found = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        weight = np.bincount(rng.integers(0, size, size), minlength=size)[member]
        high = np.bincount(rank, weights=weight * marked, minlength=distinct.size)
        low = np.bincount(rank, weights=weight * ~marked, minlength=distinct.size)
        pairs = high.sum() * low.sum()
        found[number] = high @ (np.cumsum(low) - low / 2) / pairs if pairs else np.nan
    return found[~np.isnan(found)]
