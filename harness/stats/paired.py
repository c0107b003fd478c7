"""The difference between two recipes that answered the same items after training with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import CannotTell
from harness.stats._values import (
    Bounds,
    Clusters,
    as_runs,
    filled,
    is_binary,
    joined,
    needed,
    over_repeats,
    present_mean,
    varying,
)
from harness.stats.estimate import CONFIDENCE, Difference
from harness.stats.spread import half_width, p_value, spread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from harness.stats.spread import Spread

    Floats = npt.NDArray[np.float64]


def difference(
    candidate: npt.ArrayLike,
    baseline: npt.ArrayLike,
    *,
    clusters: Clusters = None,
    bounds: Bounds | None = None,
    confidence: float = CONFIDENCE,
    null: float = 0.0,
) -> Difference:
    """Candidate minus baseline, paired by item and by run.

    With three or more runs the differences between runs are a random effect: the result speaks of the recipes. With
    fewer it speaks of these checkpoints only (`random_runs` is False). A grade that is missing in either arm is bounded
    on both sides, and the p-value is the larger of the two ends (1 where they disagree about the sign).

    Args:
        candidate: (items,), (runs, items) or (runs, items, judge repeats), as in `score`.
        baseline: likewise; the same runs and items in the same order.
        clusters: per item, the question that it belongs to.
        bounds: lowest and highest possible value of one grade.
        confidence: of the interval.
        null: the difference that the p-value is about; the interval does not depend on it.

    Raises:
        CannotTell: an arm without a grade, or a single item; without bounds also: a missing grade, or no difference
            that differs from another.
        ValueError: arms of different shape.
    """
    (a, judge_a), (b, judge_b) = over_repeats(as_runs(candidate)), over_repeats(as_runs(baseline))
    missing = _gaps(a, b)
    binary = is_binary(bounds, a, b)
    cases = _cases(a, b, missing, bounds)
    ends = [_end(joined(case, clusters), bounds, binary, 1 - confidence, null) for case in cases]
    middle = present_mean(a) - present_mean(b) if missing else a - b
    value = float(middle.mean())
    judge = None if judge_a is None or judge_b is None else judge_a + judge_b
    return Difference(
        value=value,
        low=min(ends[0].low, value),
        high=max(ends[-1].high, value),
        p=_p(ends),
        n=a.shape[-1],
        missing=missing,
        runs=a.shape[0],
        random_runs=ends[0].spread.random_runs,
        confidence=confidence,
        noise=spread(joined(middle, clusters)).noise(judge),
    )


def _gaps(a: Floats, b: Floats) -> int:
    """How many grades are missing in either arm, whose values have the shape (runs, items)."""
    import numpy as np

    if a.shape != b.shape:
        raise ValueError(f"candidate has (runs, items) = {a.shape}, baseline {b.shape}: pairs need equal ones")
    if np.isnan(a).all() or np.isnan(b).all():
        raise CannotTell("one of the two has no grade at all, so there is no difference")
    return int((np.isnan(a) | np.isnan(b)).sum())


def _cases(a: Floats, b: Floats, missing: int, bounds: Bounds | None) -> list[Floats]:
    """The differences item by item; with missing grades the lowest and the highest that they could be."""
    if not missing:
        return [a - b]
    low, high = needed(bounds, missing)
    return [filled(a, low) - filled(b, high), filled(a, high) - filled(b, low)]


@dataclass(frozen=True)
class _End:
    """Interval, p-value, distance from the null and spread of one completed set of differences."""

    low: float
    high: float
    p: float
    away: float
    spread: Spread


def _p(ends: Sequence[_End]) -> float:
    """The larger p-value of the two ends; 1 where they disagree about the sign."""
    agree = len(ends) == 1 or ends[0].away * ends[-1].away > 0
    return max(end.p for end in ends) if agree else 1.0


def _end(units: Floats, bounds: Bounds | None, binary: bool, alpha: float, null: float) -> _End:
    """One completed set of differences, shape (runs, units)."""
    if units.shape[-1] == 1:
        raise CannotTell("a single item, or a single cluster of items, says nothing about others")
    of = spread(units)
    varying(of.units, bounds)
    width = bounds[1] - bounds[0] if bounds is not None else 0.0
    floor = small_sample(units, of, width, binary)
    half = float(half_width(of, alpha, floor))
    mean = float(of.mean)
    p = float(p_value(replace(of, mean=of.mean - null), floor))
    return _End(mean - half, mean + half, p, mean - null, of)


def small_sample(units: Floats, of: Spread, width: float, binary: bool) -> Floats:
    """The variance that two more items, one won and one lost, would add (Bonett and Price 2012); 0 for other metrics.

    Without it, forty items on which two models agree would prove them equal. Grades that are drawn anew in every run
    count up to once per run: the term shrinks with the square of the effective number of items. `units` has shape
    (..., runs, units); where a bounded metric does not vary at all, the term is added as well.
    """
    import numpy as np

    runs = units.shape[-2]
    cell = units.var(axis=(-2, -1))
    item = units.mean(axis=-2).var(axis=-1)
    factor = np.clip(np.divide(cell, item, out=np.ones_like(cell), where=item > 0), 1.0, runs)
    term = 2 * (width / (of.n * factor)) ** 2
    return np.where(binary | (of.units <= 0), term, 0.0)
