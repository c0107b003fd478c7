"""Scores carry value, interval, n and missing; a missing grade is never averaged away."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import CannotTell
from harness.stats import score


def binary(right: int, n: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * (n - right))


@pytest.mark.parametrize(("right", "n"), [(0, 40), (1, 40), (20, 40), (40, 40), (24, 805), (402, 805)])
def test_one_run_of_a_binary_metric_is_wilsons_interval(right: int, n: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    found = score(binary(right, n), bounds=(0, 1))

    assert (found.low, found.high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    assert (found.value, found.n, found.missing, found.runs) == (right / n, n, 0, 1)
    assert not found.random_runs


def test_without_bounds_one_run_is_the_t_interval() -> None:
    from scipy import stats

    values = np.random.default_rng(0).normal(6, 2, 80)
    expected = stats.t.interval(0.95, 79, values.mean(), stats.sem(values))

    found = score(values)

    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    items = rng.random((3, 400))
    alike = score((items < 0.5).astype(float), bounds=(0, 1))
    apart = score((items < np.array([[0.4], [0.5], [0.6]])).astype(float), bounds=(0, 1))

    assert apart.high - apart.low > 3 * (alike.high - alike.low)
    assert apart.noise is not None
    assert apart.noise.dominant() == "seeds"
    assert apart.random_runs


def test_two_seeds_are_no_random_effect() -> None:
    values = (np.random.default_rng(1).random((2, 400)) < np.array([[0.4], [0.6]])).astype(float)

    found = score(values, bounds=(0, 1))

    assert not found.random_runs
    assert found.runs == 2


def test_items_of_one_question_do_not_count_twice() -> None:
    rng = np.random.default_rng(2)
    once = (rng.random((1, 100)) < 0.5).astype(float)
    twice = np.repeat(once, 2, axis=1)
    clusters = [f"q{i // 2}" for i in range(200)]

    clustered, naive = score(twice, clusters=clusters, bounds=(0, 1)), score(twice, bounds=(0, 1))
    single = score(once, bounds=(0, 1))

    assert clustered.value == naive.value == single.value
    assert naive.high - naive.low < 0.75 * (single.high - single.low)
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=0.03)


def test_clusters_of_unequal_size_keep_the_mean_over_items() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0])

    found = score(values, clusters=["a", "a", "a", "b", "c", "d", "d"], bounds=(0, 1))

    assert found.value == pytest.approx(4 / 7)
    assert found.low < 4 / 7 < found.high


def test_missing_grades_reach_from_the_worst_to_the_best_case() -> None:
    values = binary(60, 100)
    values[:10] = np.nan  # ten right answers without a grade

    found = score(values, bounds=(0, 1))

    assert found.missing == 10
    assert found.value == pytest.approx(50 / 90)
    assert found.low == pytest.approx(score(binary(50, 100), bounds=(0, 1)).low)
    assert found.high == pytest.approx(score(binary(60, 100), bounds=(0, 1)).high)


def test_without_bounds_a_missing_grade_could_be_anything() -> None:
    with pytest.raises(CannotTell, match="1 grades are missing and the metric has no bounds"):
        score(np.array([1.0, 9.0, 5.0, np.nan]))


@pytest.mark.parametrize("runs", [1, 3])
def test_without_bounds_items_that_are_all_alike_say_nothing(runs: int) -> None:
    with pytest.raises(CannotTell, match="no item differs from another"):
        score(np.full((runs, 7), 0.1))
    assert score(np.full((runs, 7), 5.0), bounds=(1, 10)).high > 5.5


def test_judge_repeats_show_as_judge_noise() -> None:
    rng = np.random.default_rng(3)
    noisy = rng.normal(5, 0.1, (3, 50, 1)) + rng.normal(0, 2, (3, 50, 4))

    found, once = score(noisy), score(noisy[..., 0])

    assert found.noise is not None
    assert once.noise is not None
    assert (found.noise.shares()["judge"] or 0) > 0.8
    assert once.noise.judge is None, "not measured is not 0"
    assert once.noise.shares()["judge"] is None


def test_shares_of_the_noise_sum_to_one() -> None:
    values = (np.random.default_rng(4).random((3, 200)) < np.array([[0.3], [0.5], [0.6]])).astype(float)

    noise = score(values, bounds=(0, 1)).noise

    assert noise is not None
    assert sum(share or 0.0 for share in noise.shares().values()) == pytest.approx(1)


def test_no_grade_at_all_is_no_score() -> None:
    with pytest.raises(CannotTell, match="none of 6 grades is there"):
        score(np.full((2, 3), np.nan), bounds=(0, 1))


def test_a_single_item_has_no_interval_without_bounds() -> None:
    with pytest.raises(CannotTell, match="a single item"):
        score([3.0])
    assert (score([1.0], bounds=(0, 1)).low, score([1.0], bounds=(0, 1)).high) == (0, 1)


def test_an_infinite_value_is_refused() -> None:
    with pytest.raises(ValueError, match="infinite"):
        score([1.0, np.inf])


def test_the_interval_stays_within_the_bounds() -> None:
    found = score((np.random.default_rng(5).random((3, 40)) < 0.01).astype(float), bounds=(0, 1))

    assert 0 <= found.low <= found.value <= found.high <= 1
