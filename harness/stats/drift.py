"""Has a judge drifted? A paired test over sentinels, with the noise of its repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

DRIFT_ALPHA = 0.01
"""Two-sided; a comparison that is refused costs a new grading, so false alarms should be rare."""
MIN_SENTINELS = 5
"""With fewer, nothing is said."""

Values = Mapping[str, Sequence[float | None]]
"""Sentinel to the value of each repeat; None is missing."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Newer minus older, mean over n sentinels, with its 99 % interval. `noise`: standard deviation of one verdict.

    `value`, `low`, `high` and `p` are None where too few sentinels have verdicts in both readings (`n` says how many):
    then nothing is known, which is not the same as no drift.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    noise: float
    missing: int

    def found(self, tests: int = 1) -> bool:
        """True where the judge has drifted, with Bonferroni's correction for so many tests."""
        return self.p is not None and self.p * tests < DRIFT_ALPHA


def drift(older: Values, newer: Values) -> Drift:
    """Compares two readings of the same sentinels.

    The standard error is the larger of two: what the sentinels' own differences show, and what the repeats predict. So
    a judge that answers the same in every repeat of a reading but flips one sentinel from run to run is not drifting,
    and neither is a noisy one. A change that raises some scores and lowers others alike is not seen.
    """
    from scipy import stats

    shared = [name for name in older if name in newer and _present(older[name]) and _present(newer[name])]
    missing = len({*older, *newer}) - len(shared)
    noise = _noise([_present(side[name]) for name in shared for side in (older, newer)])
    pairs = [(_present(older[name]), _present(newer[name])) for name in shared]
    found = [fmean(new) - fmean(old) for old, new in pairs]
    if len(found) < MIN_SENTINELS:
        return Drift(value=None, low=None, high=None, n=len(found), p=None, noise=noise**0.5, missing=missing)
    count, mean = len(found), fmean(found)
    seen = sum((d - mean) ** 2 for d in found) / (count - 1) / count
    predicted = noise * sum(1 / len(old) + 1 / len(new) for old, new in pairs) / count**2
    error = max(seen, predicted) ** 0.5
    reach = float(stats.t.ppf(1 - DRIFT_ALPHA / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    return Drift(value=mean, low=mean - reach, high=mean + reach, n=count, p=p, noise=noise**0.5, missing=missing)


def _present(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _noise(groups: Sequence[Sequence[float]]) -> float:
    """Pooled variance of one verdict within the repeats; 0 where nothing was repeated."""
    free = sum(len(group) - 1 for group in groups)
    squares = sum((value - fmean(group)) ** 2 for group in groups for value in group)
    return squares / free if free else 0.0
