"""How far a mean over runs and items may be from the truth: variance components, half widths, p-values.

The model is the crossed random effect  value = truth + run + item + rest.  Of the mean over S runs and n items, the
variance of item means / n holds items and rest (U), and the variance of run means / S holds runs and rest (A). Adding
both counts the rest (R) twice, so it is taken off:

    variance = (U - w R) + w A        half width = (t(n-1) (U - w R) + t(S-1) w A) / sqrt(variance)

Each part brings its own t quantile, weighted by its share of the variance (Cochran 1964). Where all items are drawn
anew in every run (U = R) and seeds scatter, this is the t interval over run means, which is exact. `w` says whether
seeds scatter at all: it is 0 where A is below the median of what the rest alone would make of it, 1 from the 60 %
quantile on, and rises in between, so that the width has no jump. Always counting A would cover .99 at three times the
width where seeds do not matter: three run means are too few to be sure of anything. `benchmarks/intervals.py` prints
the coverage. Arrays may have leading axes: many experiments at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.stats.estimate import MIN_RUNS, Noise

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


COUNTED = (0.5, 0.6)
"""Quantiles of the between-run variance that item noise alone shows: seeds count from the first on, in full from the
second on. With these coverage stays between .938 and .974 in normal theory, whatever seeds and items contribute."""


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

    def counted(self) -> Floats:
        """The weight of the between-run variance, 0 to 1 (see above); 0 with fewer than three runs."""
        import numpy as np

        if not self.random_runs:
            return np.zeros_like(self.mean)
        low, high = (usual_ratio(share, self.runs - 1) * self.rest for share in COUNTED)
        gap = np.where(high > low, high - low, 1.0)
        return np.where(high > low, np.clip((self.between - low) / gap, 0.0, 1.0), 1.0)

    def parts(self, units: Floats) -> tuple[Floats, Floats]:
        """The variance of the mean that items add, and that seeds add; `units` stands for the spread's own."""
        import numpy as np

        weight = self.counted()
        return np.maximum(0.0, units - weight * self.rest), weight * self.between

    def half_square(self, units: Floats, of_items: Floats, of_runs: Floats) -> Floats:
        """The square of the half width; `units` stands for the spread's own, the quantiles for those of t."""
        import numpy as np

        return np.asarray(_half(*self.parts(units), of_items, of_runs) ** 2)

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


def _half(items: Floats, seeds: Floats, of_items: Floats, of_runs: Floats) -> Floats:
    """Half the interval from the two parts of the variance, each with its own t quantile."""
    import numpy as np

    whole = items + seeds
    reach = of_items * items + of_runs * seeds
    return np.divide(reach, np.sqrt(whole), out=np.zeros_like(whole), where=whole > 0)


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


@lru_cache(maxsize=1024)
def usual_ratio(share: float, freedom: int) -> float:
    """The quantile of chi² over its degrees of freedom: below it lies that share of variance estimates (truth: 1)."""
    from scipy.special import chdtri

    return float(chdtri(freedom, 1 - share)) / freedom


def quantile(alpha: Floats | float, freedom: float) -> Floats:
    """Two-sided t quantile: |T| exceeds it with probability alpha."""
    import numpy as np
    from scipy.special import stdtrit

    if isinstance(alpha, float):
        return np.asarray(_quantile(alpha, freedom))
    return np.asarray(stdtrit(freedom, 1 - np.asarray(alpha) / 2), dtype=np.float64)


@lru_cache(maxsize=1024)
def _quantile(alpha: float, freedom: float) -> float:
    """`quantile` of one level: comparisons of one design ask for the same few thousands of times."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - alpha / 2))


def half_width(of: Spread, alpha: Floats | float, floor: Floats | float = 0.0) -> Floats:
    """Half of the 1 - alpha interval. `floor` is added to the variance of units (see `paired.small_sample`)."""
    import numpy as np

    of_runs = quantile(alpha, max(of.runs - 1, 1))
    return np.sqrt(of.half_square(of.units + floor, quantile(alpha, of.n - 1), of_runs))


def p_value(of: Spread, floor: Floats | float = 0.0) -> Floats:
    """The alpha at which the interval around the mean touches 0, found by bisection; 1 where the mean is 0."""
    import numpy as np

    distance, (items, seeds) = np.abs(of.mean), of.parts(of.units + floor)
    low, high = np.full_like(distance, -12.0), np.zeros_like(distance)
    for _ in range(40):
        middle = (low + high) / 2
        alpha = 10.0 ** np.asarray(middle)
        wide = _half(items, seeds, quantile(alpha, of.n - 1), quantile(alpha, max(of.runs - 1, 1))) >= distance
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.where(distance == 0, 1.0, 10.0**high)
