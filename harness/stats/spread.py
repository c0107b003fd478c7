"""How far a mean over runs and items may be from the truth: variance components, half widths, p-values.

The model is the crossed random effect  value = truth + run + item + rest.  Of the mean over S runs and n items, the
variance of item means / n holds items and rest, and the variance A of run means / S holds runs and rest. Adding both
counts the rest twice, so a share of it is taken off A:

    half width² = t(n-1)² · items/n  +  t(S-1)² · max(0, A - m · rest)

Each source has its own t quantile (Banerjee 1960), which is safe whatever their ratio, and `m` is the median of
chi²(S-1)/(S-1): between-run variance counts only so far as it exceeds what item noise alone would show half of the
time. With m = 1 and Satterthwaite's degrees of freedom instead (the usual ANOVA interval), the width jumps by a factor
of two where A passes the rest. `benchmarks/intervals.py` prints the coverage. Arrays may have leading axes: many
experiments at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stats.estimate import MIN_RUNS, Noise

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean of values of shape (..., runs, units), and variances of that mean; every array has shape (...).

    `units`: from differences between units (items, or clusters of items), the rest included. `between`: the variance of
    run means over the number of runs. `rest`: the run-by-unit residual. The last two are 0 for a single run.
    """

    mean: Floats
    units: Floats
    between: Floats
    rest: Floats
    n: int
    runs: int

    @property
    def random_runs(self) -> bool:
        """True where there are enough runs to count their noise."""
        return self.runs >= MIN_RUNS

    def excess(self) -> Floats:
        """Between-run variance beyond what the rest explains; 0 with fewer than three runs."""
        import numpy as np

        if not self.random_runs:
            return np.zeros_like(self.mean)
        return np.maximum(0.0, self.between - typical_ratio(self.runs - 1) * self.rest)

    def noise(self, judge: float | None = None) -> Noise:
        """The components of a single experiment (arrays of shape ()), each at least 0."""
        seed = max(0.0, float(self.between - self.rest)) if self.random_runs else 0.0
        rest = float(self.rest) if self.runs > 1 else 0.0
        units = float(self.units)
        return Noise(
            persistent=max(0.0, units - rest),
            residual=min(rest, units),
            seed=seed,
            judge=judge,
            n=self.n,
            runs=self.runs,
        )


def spread(values: Floats) -> Spread:
    """The spread of complete values, shape (..., runs, units), at least two units."""
    import numpy as np

    runs, n = values.shape[-2:]
    mean, by_run, by_unit = values.mean(axis=(-2, -1)), values.mean(axis=-1), values.mean(axis=-2)
    units = _real(by_unit.var(axis=-1, ddof=1) / n, values)
    if runs == 1:
        return Spread(mean, units, np.zeros_like(mean), np.zeros_like(mean), n, 1)
    residuals = values - by_run[..., None] - by_unit[..., None, :] + mean[..., None, None]
    rest = _real((residuals**2).sum(axis=(-2, -1)) / ((runs - 1) * (n - 1)) / (runs * n), values)
    between = _real(by_run.var(axis=-1, ddof=1) / runs, values)
    return Spread(mean, units, between, rest, n, runs)


def _real(variance: Floats, values: Floats) -> Floats:
    """The variance, or 0 where it is only rounding: equal values must count as values that do not vary."""
    import numpy as np

    return np.where(variance > (1e-12 * np.abs(values).max(axis=(-2, -1))) ** 2, variance, 0.0)


def typical_ratio(freedom: int) -> float:
    """The median of chi² over its degrees of freedom: what a variance estimate exceeds half of the time."""
    from scipy.special import chdtri

    return float(chdtri(freedom, 0.5)) / freedom


def quantile(alpha: Floats | float, freedom: float) -> Floats:
    """Two-sided t quantile: |T| exceeds it with probability alpha."""
    import numpy as np
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, 1 - np.asarray(alpha) / 2), dtype=np.float64)


def half_width(of: Spread, alpha: Floats | float, floor: Floats | float = 0.0) -> Floats:
    """Half of the 1 - alpha interval. `floor` is added to the variance of units (see `paired.small_sample`)."""
    import numpy as np

    square = quantile(alpha, of.n - 1) ** 2 * (of.units + floor)
    if of.random_runs:
        square = square + quantile(alpha, of.runs - 1) ** 2 * of.excess()
    return np.sqrt(square)


def p_value(of: Spread, floor: Floats | float = 0.0) -> Floats:
    """The alpha at which the interval around the mean touches 0, found by bisection; 1 where the mean is 0."""
    import numpy as np

    distance = np.abs(of.mean)
    low, high = np.full_like(distance, -12.0), np.zeros_like(distance)
    for _ in range(40):
        middle = (low + high) / 2
        wide = half_width(of, 10.0**middle, floor) >= distance
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.where(distance == 0, 1.0, 10.0**high)
