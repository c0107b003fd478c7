"""Exact paired tests and Holm's correction against statsmodels and scipy."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import CannotTell
from harness.stats import holm, paired_test


def scores(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(5, 1, n), rng.normal(4.5, 1, n)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 5), (1, 9), (30, 12), (0, 7)])
def test_mcnemar_equals_statsmodels(won: int, lost: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    a = np.array([1.0] * won + [0.0] * lost + [1.0] * 10)
    b = np.array([0.0] * won + [1.0] * lost + [1.0] * 10)

    p, test = paired_test(a, b)

    assert test == "mcnemar"
    assert p == pytest.approx(mcnemar([[10, won], [lost, 0]], exact=True).pvalue)


def test_wilcoxon_equals_scipy() -> None:
    from scipy import stats

    a, b = scores()

    assert paired_test(a, b, "wilcoxon")[0] == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_permutation_is_near_the_t_test_and_reproducible() -> None:
    from scipy import stats

    a, b = scores()
    p, test = paired_test(a, b)

    assert test == "permutation"
    assert p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.01)
    assert paired_test(a, b)[0] == p


def test_equal_arms_have_p_1() -> None:
    a, _ = scores()

    assert paired_test(a, a)[0] == 1
    assert paired_test(a, a, "wilcoxon")[0] == 1


def test_pairs_with_a_missing_grade_are_left_out() -> None:
    a, b = np.array([1.0, 1, 1, 0, np.nan]), np.array([0.0, 0, 0, 0, 1])

    assert paired_test(a, b) == paired_test(a[:4], b[:4])
    with pytest.raises(CannotTell, match="no item has a grade in both arms"):
        paired_test([np.nan, 1.0], [1.0, np.nan])


def test_mcnemar_refuses_scores() -> None:
    with pytest.raises(ValueError, match="0 and 1 only"):
        paired_test(*scores(), "mcnemar")


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed: int) -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(seed).random(7) ** 3

    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == ()
