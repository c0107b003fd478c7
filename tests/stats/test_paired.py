"""Differences are paired by item and run, and their p-value agrees with their interval."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import CannotTell
from harness.stats import difference


def arms(gap: float, seed_sd: float = 0.0, n: int = 300, runs: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    skill, shift = rng.random((1, n)), seed_sd * rng.standard_normal((2, runs, 1))
    noise = rng.normal(0, 0.05, (2, runs, n))
    level = 0.5 + np.array([gap, 0.0])[:, None, None] + shift
    right = (skill + noise < level).astype(float)
    return right[0], right[1]


def test_pairing_is_tighter_than_two_scores() -> None:
    from harness.stats import score

    a, b = arms(0.05)
    found = difference(a, b, bounds=(0, 1))
    apart = score(a, bounds=(0, 1)).high - score(a, bounds=(0, 1)).low

    assert found.value == pytest.approx(float((a - b).mean()))
    assert found.high - found.low < apart
    assert found.low > 0


@pytest.mark.parametrize("seed", range(12))
def test_the_p_value_is_below_5_percent_exactly_where_the_interval_leaves_0_out(seed: int) -> None:
    a, b = arms(0.02, seed_sd=0.01, seed=seed)
    found = difference(a, b, bounds=(0, 1))

    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_seeds_dominate_where_they_scatter() -> None:
    a, b = arms(0.05, seed_sd=0.15, seed=3)
    found = difference(a, b, bounds=(0, 1))

    assert found.noise.dominant() == "seeds"
    assert found.random_runs


def test_one_pair_of_runs_speaks_of_checkpoints() -> None:
    a, b = arms(0.1, runs=1)

    assert not difference(a, b, bounds=(0, 1)).random_runs


def test_two_that_agree_on_forty_items_are_not_proven_equal() -> None:
    same = (np.arange(40) % 2).astype(float)

    found = difference(same, same, bounds=(0, 1))

    assert found.value == 0
    assert found.p == 1
    assert found.high == pytest.approx(0.0715, abs=0.001)  # about the rule of three, 3/40
    assert found.low == -found.high


def test_one_run_of_a_metric_without_bounds_is_the_paired_t_test() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 1, 60), rng.normal(4.6, 1, 60)
    found = difference(a, b)
    expected = stats.ttest_rel(a, b)

    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6)


def test_a_missing_grade_is_bounded_on_both_sides() -> None:
    a, b = arms(0.05)
    whole = difference(a, b, bounds=(0, 1))
    a[:, :15] = np.nan
    found = difference(a, b, bounds=(0, 1))

    assert found.missing == 45
    assert found.low < whole.low
    assert found.high > whole.high
    assert found.p > whole.p


def test_where_the_missing_ones_could_turn_the_sign_there_is_no_evidence() -> None:
    a, b = arms(0.01)
    a[:, :60] = np.nan

    assert difference(a, b, bounds=(0, 1)).p == 1


def test_without_bounds_missing_or_equal_grades_are_no_evidence() -> None:
    a, b = 5 + arms(0.05)[0], 5 + arms(0.05)[1]
    a[:, :2] = np.nan
    with pytest.raises(CannotTell, match="6 grades are missing and the metric has no bounds"):
        difference(a, b)
    with pytest.raises(CannotTell, match="no item differs from another"):
        difference(np.full((3, 20), 7.1), np.full((3, 20), 7.0))


def test_equal_differences_of_a_bounded_metric_are_not_certain() -> None:
    found = difference(np.full((3, 20), 7.1), np.full((3, 20), 7.0), bounds=(1, 10))

    assert found.low < 0 < found.high
    assert found.noise.total == 0
    assert found.noise.judge is None


def test_clusters_widen_the_interval_where_their_items_agree() -> None:
    a, b = arms(0.05)
    twice = difference(np.repeat(a, 2, 1), np.repeat(b, 2, 1), clusters=[i // 2 for i in range(600)], bounds=(0, 1))
    once = difference(a, b, bounds=(0, 1))

    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.03)


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs need equal ones"):
        difference(np.zeros((3, 4)), np.zeros((2, 4)))


def test_an_arm_without_grades_is_no_difference() -> None:
    with pytest.raises(CannotTell, match="no grade at all"):
        difference(np.zeros((3, 4)), np.full((3, 4), np.nan), bounds=(0, 1))
