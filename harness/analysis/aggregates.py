"""Figures that a suite sums up itself (win rates of a package, length control), over the training seeds of an arm.

Such a figure is no mean of grades, so its noise is put together from what is known: the interval that the suite gives
for one checkpoint holds the items' noise, the figures of several seeds show the seeds'. How much of the items' noise
the seeds share is taken from the headline metric, which has the same items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from harness.analysis.arms import Arm
from harness.analysis.grid import Grid
from harness.stats.estimate import CONFIDENCE, MIN_RUNS

if TYPE_CHECKING:
    from harness.stats.spread import Spread

ENDS = (".low", ".high", ".n", ".missing")


@dataclass(frozen=True, kw_only=True)
class Apart:
    """An arm's figure minus the baseline's, with ends that hold whatever the two share.

    A figure that is no mean of items (a fit over all of them, say) has no difference item by item, so what two arms on
    the same items share cannot be taken out. The deviation of a difference is at most the sum of both deviations: the
    ends are those of the two intervals put together. They are wider than paired ones would be, never narrower.
    """

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """True where the two figures are told apart even so."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """One figure. `low` and `high` are None where the suite gives no interval for it: then it is shown as bare.

    `against` compares it with the baseline's; None for the baseline itself, or where one of the two has no interval.
    """

    value: float
    low: float | None
    high: float | None
    n: int | None
    missing: int
    runs: int
    random_runs: bool = False
    against: Apart | None = None


def beside_baseline(mine: Mapping[str, Aggregate], base: Mapping[str, Aggregate]) -> dict[str, Aggregate]:
    """The figures of an arm, each with its distance from the baseline's of the same name."""
    return {name: replace(one, against=_apart(one, base.get(name))) for name, one in mine.items()}


def _apart(one: Aggregate, base: Aggregate | None) -> Apart | None:
    if base is None or one.low is None or one.high is None or base.low is None or base.high is None:
        return None
    value = one.value - base.value
    return Apart(
        value=value,
        low=value - (one.value - one.low) - (base.high - base.value),
        high=value + (one.high - one.value) + (base.value - base.low),
    )


def of_arm(grid: Grid, recipe: str, student: str, suite: str, split: str, arm: Arm) -> dict[str, Aggregate]:
    """Name to figure, over the cells of one arm at its last iteration; `name:part` for parts (categories, turns)."""
    reports = [
        dict(found.get("report") or {})
        for cell in grid.cells_of(recipe, student)
        if (key := cell.last.grades.get(suite, {}).get(split)) is not None and (found := grid.manifest(key)) is not None
    ]
    return over_runs(reports, arm)


def over_runs(reports: Sequence[Mapping[str, Any]], arm: Arm) -> dict[str, Aggregate]:
    """Joins the reports of several checkpoints; a figure that one of them lacks is left out."""
    names = [name for name in (reports[0] if reports else {}) if not name.endswith(ENDS)]
    there = [name for name in names if all(isinstance(report.get(name), int | float) for report in reports)]
    shares = _shares(arm)
    return {name: _joined(name, reports, shares) for name in there}


def _joined(name: str, reports: Sequence[Mapping[str, Any]], shares: tuple[float, float]) -> Aggregate:
    values = [float(report[name]) for report in reports]
    counts = [report.get(f"{name}.n") for report in reports]
    low, high = _interval(name, values, reports, shares)
    return Aggregate(
        value=fmean(values),
        low=low,
        high=high,
        n=int(counts[0]) if counts[0] is not None else None,
        missing=round(sum(report.get(f"{name}.missing") or 0 for report in reports)),
        runs=len(values),
        random_runs=low is not None and len(values) >= MIN_RUNS,
    )


def _interval(
    name: str, values: Sequence[float], reports: Sequence[Mapping[str, Any]], shares: tuple[float, float]
) -> tuple[float | None, float | None]:
    """The suite's own interval for one checkpoint; for several, its mean width with the noise of seeds added."""
    import numpy as np

    from harness.stats.spread import half_width

    ends = [(report.get(f"{name}.low"), report.get(f"{name}.high")) for report in reports]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    if len(known) < len(values):
        return None, None
    if len(values) == 1:
        return known[0]
    below = fmean((value - low) for value, (low, _) in zip(values, known, strict=True))
    above = fmean((high - value) for value, (_, high) in zip(values, known, strict=True))
    single = ((below + above) / 2 / 1.96) ** 2
    items, rest = (share * single for share in shares)
    between = variance(values) / len(values)
    of = _spread(np.asarray(items), np.asarray(between), np.asarray(rest), len(values))
    factor = float(half_width(of, 1 - CONFIDENCE)) / (1.96 * single**0.5) if single > 0 else 0.0
    return fmean(values) - factor * below, fmean(values) + factor * above


def _spread(items: Any, between: Any, rest: Any, runs: int) -> Spread:
    """The spread of a figure; its items are many, so that their t quantile is nearly normal."""
    from harness.stats.spread import Spread

    return Spread(items * 0.0, items, between, rest, 1000, runs)


def _shares(arm: Arm) -> tuple[float, float]:
    """Of one checkpoint's item variance: what is left in the mean over runs, and what of that differs between runs."""
    import numpy as np

    from harness.stats._values import over_repeats
    from harness.stats.spread import spread

    values, _ = over_repeats(arm.all())
    if values.shape[0] < 2 or values.shape[1] < 2 or np.isnan(values).any():
        return 1.0, 0.0
    of = spread(values)
    single = float(np.mean(values.var(axis=1, ddof=1))) / values.shape[1]
    return (float(of.units) / single, float(of.rest) / single) if single > 0 else (1.0, 0.0)
