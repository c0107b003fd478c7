"""What a design can detect, and what would settle an open comparison.

Both use the noise of a measured difference and ask for the effect that is found with 80 % power: in four of five
simulated repetitions its interval leaves out 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.errors import CannotTell
from harness.stats.estimate import ALPHA, MIN_RUNS, Difference, Noise
from harness.stats.simulate import experiments
from harness.stats.spread import half_width

POWER = 0.8
MOST_RUNS = 64
"""Beyond so many training seeds the answer is that seeds will not settle it."""
MOST_ITEMS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Settle:
    """What would tell a difference of the observed size from 0. None: no number within reason does it alone.

    Where nothing varied, all of it is None: without noise to go by, no design can be judged.
    """

    difference: float
    more_runs: int | None
    more_items: int | None
    detectable: float | None
    """The smallest difference that the present design finds with 80 % power."""
    seconds: float | None = None
    """Forecast time of the further runs."""


def scaled(noise: Noise, runs: int, n: int) -> Noise:
    """The noise of the same recipes with another number of runs and items."""
    return replace(
        noise,
        persistent=noise.persistent * noise.n / n,
        residual=noise.residual * noise.n * noise.runs / (n * runs),
        seed=noise.seed * noise.runs / runs,
        judge=None if noise.judge is None else noise.judge * noise.n * noise.runs / (n * runs),
        n=n,
        runs=runs,
    )


def assumed(
    n: int, runs: int, *, share: float = 0.5, seed_sd: float = 0.0, agreement: float = 0.5, width: float = 1.0
) -> Noise:
    """The noise to expect of a paired difference before anything is measured: for planning a design.

    Args:
        n: items.
        runs: training seeds per arm.
        share: score of both arms, as a share of the metric's range.
        seed_sd: deviation of one arm's score from training seed to training seed, in the metric's unit.
        agreement: correlation of the two arms' grades over items, 0 to 1 (same model family: about one half).
        width: of the metric's range; 1 for shares.

    Raises:
        ValueError: fewer than two items, no run, or a share or agreement outside 0 to 1.
    """
    if n < 2 or runs < 1 or not 0 <= share <= 1 or not 0 <= agreement <= 1:
        raise ValueError("a design needs two items, one run, and a share and an agreement between 0 and 1")
    items = 2 * width**2 * share * (1 - share) * (1 - agreement) / n
    return Noise(persistent=items / 2, residual=items / 2 / runs, seed=2 * seed_sd**2 / runs, n=n, runs=runs)


def detectable(noise: Noise, *, runs: int | None = None, n: int | None = None, power: float = POWER) -> float:
    """The smallest true difference that is told from 0 with the given power, in the metric's unit.

    Args:
        noise: of a measured difference.
        runs: training seeds per arm (None: as measured).
        n: items (None: as measured).
        power: probability of finding it.

    Raises:
        CannotTell: nothing varied, so the power is not known.
    """
    import numpy as np

    there = scaled(noise, runs or noise.runs, n or noise.n)
    if there.total <= 0:
        raise CannotTell("no variation was seen, so the power is not known")
    of = experiments(there)
    return float(np.quantile(half_width(of, ALPHA) - of.mean, power))


def settle(found: Difference, seconds_per_run: float | None = None) -> Settle:
    """How many more training seeds, or how many more items, would settle a difference of the observed size.

    Args:
        found: the open comparison.
        seconds_per_run: what one further training seed costs, both arms together.
    """
    noise, goal = found.noise, abs(found.value)
    if noise.total <= 0:
        return Settle(difference=found.value, more_runs=None, more_items=None, detectable=None)
    runs = _least(max(noise.runs, MIN_RUNS), MOST_RUNS, goal, lambda number: detectable(noise, runs=number))
    items = _least(noise.n, MOST_ITEMS, goal, lambda number: detectable(noise, n=number))
    more = None if runs is None else runs - noise.runs
    return Settle(
        difference=found.value,
        more_runs=more,
        more_items=None if items is None else items - noise.n,
        detectable=detectable(noise),
        seconds=None if more is None or seconds_per_run is None else more * seconds_per_run,
    )


def _least(low: int, high: int, goal: float, effect: Callable[[int], float]) -> int | None:
    """The smallest number whose detectable effect is within the goal, by bisection; None where the largest is not."""
    if not goal or effect(high) > goal:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if effect(middle) <= goal else (middle + 1, high)
    return low
