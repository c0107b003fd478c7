"""Areas under the ROC curve and unpaired means: peers' values, coverage, copies that count once, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.errors import CannotTell
from harness.stats import auroc, difference, unpaired


def test_the_area_is_scikit_learns_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    marked = rng.random(300) < 0.3
    scores = np.round(rng.normal(marked * 0.7, 1.0), 1)
    found = auroc(scores, marked)
    assert found.value == pytest.approx(roc_auc_score(marked, scores))
    assert found.low < found.value < found.high
    assert (found.marked, found.others) == (int(marked.sum()), int((~marked).sum()))
    assert found.p >= stats.mannwhitneyu(scores[marked], scores[~marked]).pvalue


def test_the_interval_covers_and_the_test_rarely_errs() -> None:
    rng, covered, alarms = np.random.default_rng(1), 0, 0
    truth = float(stats.norm.cdf(0.5 / np.sqrt(2)))
    for _ in range(150):
        found = auroc(np.concatenate([rng.normal(0.5, 1, 60), rng.normal(0, 1, 80)]), [True] * 60 + [False] * 80)
        covered += found.low <= truth <= found.high
        alarms += auroc(rng.normal(size=140), [True] * 60 + [False] * 80).p < 0.05
    assert covered >= 0.89 * 150
    assert alarms <= 0.09 * 150


def test_copies_of_a_row_are_one_row() -> None:
    rng = np.random.default_rng(2)
    marked = np.arange(60) < 30
    scores = rng.normal(marked * 0.8, 1.0)
    once, names = auroc(scores, marked), [f"r{i}" for i in range(60)]
    copied = auroc(np.tile(scores, 9), np.tile(marked, 9), clusters=names * 9)
    naive = auroc(np.tile(scores, 9), np.tile(marked, 9))
    assert copied.value == pytest.approx(once.value)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.15)
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_a_perfect_score_and_a_constant_one() -> None:
    marks = [True] * 10 + [False] * 10
    perfect = auroc(range(20, 0, -1), marks)
    assert (perfect.value, perfect.low, perfect.high) == (1.0, 1.0, 1.0)
    assert perfect.p < 0.001
    nothing = auroc([1.0] * 20, marks)
    assert (nothing.value, nothing.p) == (0.5, 1.0)


def test_too_few_rows_say_nothing_and_no_number_is_a_mistake() -> None:
    with pytest.raises(CannotTell, match="4 marked rows and 6 others"):
        auroc(range(10), [True] * 4 + [False] * 6)
    with pytest.raises(ValueError, match="one finite score"):
        auroc([float("nan")] * 10, [True] * 5 + [False] * 5)


def test_unpaired_means_are_welchs() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 1, 30), rng.normal(0, 2, 50)
    found = unpaired(a, b)
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    with pytest.raises(CannotTell, match="no row differs"):
        unpaired([1.0] * 9, [2.0] * 9)
    with pytest.raises(CannotTell, match="4 rows against 9"):
        unpaired([1.0, 2, 3, 4], [2.0] * 9)


def test_a_difference_can_be_tested_against_another_number_than_0() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(0, 1, (3, 200))
    better = base + rng.normal(0.3, 0.5, (3, 200))
    plain, moved = difference(better, base), difference(better, base, null=0.3)
    assert (moved.value, moved.low, moved.high) == (plain.value, plain.low, plain.high)
    assert plain.p < 0.001 < 0.2 < moved.p
    assert difference(better, base, null=plain.low).p == pytest.approx(0.05, abs=1e-6)
