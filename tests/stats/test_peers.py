"""The same data, other people's code: MLflow's comparison of two evaluations, scipy's bootstrap, statsmodels' ANOVA.

MLflow compares two evaluations since 3.18 (`mlflow.genai.compare_evaluations`). The figures below are those of
`mlflow.genai.evaluation.comparison.paired_comparison._compare_paired_values` of mlflow 3.18.0 on the data of `pairs`;
where the installed MLflow has that function, it is asked as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from harness.stats import difference, item_bootstrap, paired_test

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Mlflow:
    """What MLflow 3.18.0 says of one data set."""

    method: str
    diff: float
    low: float
    high: float
    p: float
    t_test: float | None


CASES = {
    ("binary", 60, 1): Mlflow("mcnemar_exact", 0.0, -1 / 15, 1 / 15, 1.0, None),
    ("binary", 805, 2): Mlflow("mcnemar_chi2", 29 / 805, 11 / 805, 47 / 805, 0.0023892452172744696, None),
    ("points", 80, 3): Mlflow(
        "wilcoxon_asymptotic", 0.6125, 0.2875, 0.95, 0.0009240412351527755, 0.0005911508947190171
    ),
    ("real", 40, 4): Mlflow(
        "wilcoxon_exact",
        0.19189608184255247,
        0.018006352041804903,
        0.3806448074634104,
        0.08171383123044507,
        0.047234550088700304,
    ),
    ("real", 160, 5): Mlflow(
        "wilcoxon_asymptotic",
        0.1940749526856636,
        0.1007052758062543,
        0.29055281138209554,
        0.00017823018079113993,
        0.00010220597932775728,
    ),
}


def pairs(kind: str, n: int, seed: int) -> Arrays:
    """Candidate and baseline, one value per item."""
    rng = np.random.default_rng(seed)
    if kind == "binary":
        base = (rng.random(n) < 0.5).astype(float)
        other = rng.random(n) < 0.2
        return np.where(other, rng.random(n) < 0.7, base).astype(float), base
    if kind == "points":
        base = rng.integers(1, 11, n).astype(float)
        return np.clip(base + rng.integers(-2, 4, n), 1, 10).astype(float), base
    base = rng.normal(5, 1, n)
    return base + rng.normal(0.2, 0.6, n), base


def spacing(a: np.ndarray, b: np.ndarray) -> float:
    """How far two bootstraps of 10,000 draws may lie apart: a tenth of the standard error, or one step of the mean."""
    return max(0.1 * float((a - b).std()) / float(len(a) ** 0.5), 1.01 / len(a))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_mlflow_says_the_same(case: tuple[str, int, int]) -> None:
    (a, b), theirs = pairs(*case), CASES[case]
    low, high = item_bootstrap(a - b)

    assert (a - b).mean() == pytest.approx(theirs.diff)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=spacing(a, b))
    if theirs.t_test is not None:
        assert difference(a, b).p == pytest.approx(theirs.t_test, rel=1e-6)
        assert paired_test(a, b, "wilcoxon")[0] == pytest.approx(theirs.p, rel=1e-9)
    elif theirs.method == "mcnemar_exact":
        p, test = paired_test(a, b)
        assert test == "mcnemar"
        assert p == pytest.approx(theirs.p)
    else:  # MLflow approximates from 25 discordant pairs on; ours stays exact
        assert paired_test(a, b)[0] == pytest.approx(theirs.p, rel=0.2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_the_installed_mlflow_says_the_same(case: tuple[str, int, int]) -> None:
    theirs = pytest.importorskip(
        "mlflow.genai.evaluation.comparison.paired_comparison", reason="MLflow compares evaluations from 3.18 on"
    )
    (a, b), recorded = pairs(*case), CASES[case]
    found = theirs._compare_paired_values("score", b, a, value_type="numeric")

    assert found.method == recorded.method
    assert (found.diff, found.p_value) == pytest.approx((recorded.diff, recorded.p))
    assert item_bootstrap(a - b) == pytest.approx((found.ci_low, found.ci_high), abs=spacing(a, b))


@pytest.mark.parametrize("kind", ["binary", "points", "real"])
def test_the_item_bootstrap_is_scipys(kind: str) -> None:
    from scipy import stats

    a, b = pairs(kind, 120, 6)
    theirs = stats.bootstrap((a - b,), np.mean, method="BCa", n_resamples=10_000, batch=1000, rng=7)

    assert item_bootstrap(a - b) == pytest.approx(tuple(theirs.confidence_interval), abs=2 * spacing(a, b))
    assert item_bootstrap(a - b) == item_bootstrap(a - b), "its random numbers are fixed"


def test_the_bootstrap_resamples_whole_questions() -> None:
    a, b = pairs("points", 80, 8)
    once, twice = item_bootstrap(a - b), item_bootstrap(np.repeat(a - b, 2), clusters=[i // 2 for i in range(160)])
    apart = item_bootstrap(np.repeat(a - b, 2))

    assert twice == pytest.approx(once, abs=1e-9)
    assert apart[1] - apart[0] < 0.8 * (once[1] - once[0])


def test_the_bootstrap_needs_every_grade_and_more_than_one_item() -> None:
    from harness.errors import CannotTell

    with pytest.raises(CannotTell, match="needs every grade"):
        item_bootstrap([1.0, np.nan, 0.0])
    with pytest.raises(CannotTell, match="single item"):
        item_bootstrap([1.0])
    assert item_bootstrap([2.0, 2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize("kind", ["points", "real"])
def test_sign_flips_are_scipys_permutation_test(kind: str) -> None:
    from scipy import stats

    a, b = pairs(kind, 30, 9)
    b = b + 0.3
    theirs = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=10_000, rng=3)

    assert paired_test(a, b, "permutation")[0] == pytest.approx(theirs.pvalue, abs=0.02)


def test_few_items_are_permuted_exactly() -> None:
    from scipy import stats

    a, b = pairs("real", 10, 10)
    theirs = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=np.inf)

    assert paired_test(a, b, "permutation")[0] == pytest.approx(theirs.pvalue)


def test_items_of_one_question_are_exchanged_together() -> None:
    a, b = pairs("binary", 40, 11)
    b[:12] = 0.0
    a[:12] = 1.0
    doubled = np.repeat(a, 2), np.repeat(b, 2)

    p, test = paired_test(*doubled, clusters=[i // 2 for i in range(80)])

    assert test == "permutation"
    assert p == pytest.approx(paired_test(a, b, "permutation")[0], abs=0.01)
    assert paired_test(*doubled)[0] < p
    with pytest.raises(ValueError, match="mcnemar would count them as independent"):
        paired_test(*doubled, "mcnemar", clusters=[i // 2 for i in range(80)])


def test_variance_components_are_those_of_statsmodels_anova() -> None:
    import pandas as pd
    import statsmodels.api as sm
    from statsmodels.formula.api import ols

    rng = np.random.default_rng(12)
    runs, n = 4, 30
    values = np.array([[-1.0], [-0.2], [0.3], [0.9]]) + rng.normal(0, 1, (1, n)) + rng.normal(0, 0.7, (runs, n))
    frame = pd.DataFrame({"value": values.ravel(), "run": np.repeat(range(runs), n), "item": np.tile(range(n), runs)})
    table = sm.stats.anova_lm(ols("value ~ C(run) + C(item)", frame).fit())
    square = table["sum_sq"] / table["df"]
    noise = difference(values, np.zeros_like(values)).noise

    assert noise.seed == pytest.approx((square["C(run)"] - square["Residual"]) / n / runs)
    assert noise.persistent == pytest.approx((square["C(item)"] - square["Residual"]) / runs / n)
    assert noise.residual == pytest.approx(square["Residual"] / runs / n)


def test_the_width_is_near_that_of_statsmodels_mixed_model() -> None:
    """REML by statsmodels gives the standard error of the mean; ours adds the t quantiles of few runs to it."""
    import pandas as pd
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(13)
    runs, n = 12, 40
    values = 5 + rng.normal(0, 0.4, (runs, 1)) + rng.normal(0, 1, (1, n)) + rng.normal(0, 0.5, (runs, n))
    frame = pd.DataFrame(
        {"value": values.ravel(), "run": np.repeat(range(runs), n), "item": np.tile(range(n), runs), "all": 1}
    )
    model = smf.mixedlm(
        "value ~ 1", frame, groups="all", vc_formula={"run": "0 + C(run)", "item": "0 + C(item)"}, re_formula="0"
    )
    theirs = model.fit(reml=True)
    found = difference(values, np.zeros_like(values))

    assert found.value == pytest.approx(float(theirs.params["Intercept"]), abs=1e-6)
    assert found.noise.total**0.5 == pytest.approx(float(theirs.bse["Intercept"]), rel=0.05)
