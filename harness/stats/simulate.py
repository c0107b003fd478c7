"""Experiments drawn from the noise of a measured difference: the statistics that an interval is made of, no items.

Normal theory: the mean is normal, the variances of units, of runs and of the rest are scaled chi². The script
`benchmarks/intervals.py`
compares the rates that follow with those of simulated items.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from harness.stats.estimate import Noise
from harness.stats.spread import Spread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

TRIALS = 4000


def experiments(noise: Noise, *, trials: int = TRIALS, seed: int = 0) -> Spread:
    """Repetitions of an experiment whose true difference is 0; every array has shape (trials,)."""
    mean, units, between, rest = _drawn(noise.n, noise.runs, trials, seed)
    return Spread(
        mean=noise.total**0.5 * mean,
        units=(noise.persistent + noise.residual) * units,
        between=(noise.seed + noise.residual) * between,
        rest=noise.residual * rest,
        n=noise.n,
        runs=noise.runs,
    )


@lru_cache(maxsize=256)
def _drawn(n: int, runs: int, trials: int, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Means and variances of unit size: all comparisons of one design share them."""
    import numpy as np

    rng = np.random.default_rng(seed)
    freedoms = [max(freedom, 1) for freedom in (n - 1, runs - 1, (runs - 1) * (n - 1))]
    mean = rng.standard_normal(trials)
    units, between, rest = (rng.chisquare(freedom, trials) / freedom for freedom in freedoms)
    return mean, units, between, rest
