"""Experiments drawn from the noise of a measured difference: the statistics that an interval is made of, no items.

Normal theory: the mean is normal, the variances of units, of runs and of the rest are scaled chi². The script
`benchmarks/intervals.py`
compares the rates that follow with those of simulated items.
"""

from __future__ import annotations

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
    import numpy as np

    rng = np.random.default_rng(seed)

    def drawn(variance: float, freedom: int) -> Floats:
        return variance * rng.chisquare(max(freedom, 1), trials) / max(freedom, 1)

    mean = noise.total**0.5 * rng.standard_normal(trials)
    units = drawn(noise.persistent + noise.residual, noise.n - 1)
    between = drawn(noise.seed + noise.residual, noise.runs - 1)
    rest = drawn(noise.residual, (noise.runs - 1) * (noise.n - 1))
    return Spread(mean, units, between, rest, noise.n, noise.runs)
