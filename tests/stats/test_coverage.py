"""95 % intervals hold what they promise; `benchmarks/intervals.py` prints the same for 2,000 experiments each."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats.paired import small_sample
from harness.stats.scores import interval
from harness.stats.spread import half_width, p_value, spread

TRIALS, RUNS = 1500, 3


def experiments(n: int, p: float, seed_sd: float, shared: bool, seed: int) -> np.ndarray:
    """Binary grades of many experiments, shape (trials, runs, items); `shared`: an item is as hard in every run."""
    rng = np.random.default_rng([seed, n, int(1000 * p)])
    level = np.full((TRIALS, RUNS), p)
    if seed_sd:
        strength = p * (1 - p) / seed_sd**2 - 1
        level = rng.beta(p * strength, (1 - p) * strength, (TRIALS, RUNS))
    draws = rng.random((TRIALS, 1 if shared else RUNS, n))
    result: np.ndarray = (draws < level[..., None]).astype(float)
    return result


@pytest.mark.parametrize("shared", [False, True], ids=["fresh", "shared"])
@pytest.mark.parametrize("ratio", [0, 1, 2], ids=["same-seeds", "noisy-seeds", "seeds-dominate"])
@pytest.mark.parametrize(("n", "p"), [(40, 0.03), (40, 0.5), (805, 0.03), (805, 0.5)])
def test_scores_cover(n: int, p: float, ratio: int, shared: bool) -> None:
    values = experiments(n, p, ratio * (p * (1 - p) / n) ** 0.5, shared, 0)
    low, high = interval(values, clusters=None, bounds=(0.0, 1.0), binary=True)
    coverage = float(((low <= p) & (p <= high)).mean())

    assert coverage >= (0.93 if ratio < 2 else 0.92)
    assert coverage <= 0.98 or n * p < 20


@pytest.mark.parametrize("shared", [False, True], ids=["fresh", "shared"])
@pytest.mark.parametrize("ratio", [0, 1], ids=["same-seeds", "noisy-seeds"])
@pytest.mark.parametrize(("n", "p"), [(40, 0.5), (805, 0.03), (805, 0.5)])
def test_differences_cover_and_raise_few_false_alarms(n: int, p: float, ratio: int, shared: bool) -> None:
    sd = ratio * (p * (1 - p) / n) ** 0.5
    gaps = experiments(n, p, sd, shared, 1) - experiments(n, p, sd, shared, 2)
    of = spread(gaps)
    floor = small_sample(gaps, of, 1.0, True)
    coverage = float((np.abs(of.mean) <= half_width(of, 0.05, floor)).mean())
    alarms = float((p_value(of, floor) < 0.05).mean())

    assert 0.93 <= coverage <= 0.985
    assert alarms == pytest.approx(1 - coverage, abs=1e-9)


def test_bootstrapping_three_seeds_would_not_do() -> None:
    """Why the seed term is t-based: the percentile bootstrap of three runs covers far less than it promises."""
    values = experiments(805, 0.5, (0.25 / 805) ** 0.5, False, 3).mean(axis=-1)
    picks = np.random.default_rng(0).integers(0, RUNS, (200, RUNS))
    means = values[:, picks].mean(axis=-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=-1)

    assert float(((low <= 0.5) & (high >= 0.5)).mean()) < 0.85
