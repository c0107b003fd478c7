"""What stands beside a score: the suite's own figures, and the score without suspect answers or leaked items."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from written_experiments import Written, write

from harness.analysis.compare import compare_experiment
from harness.analysis.items import items
from harness.analysis.result import ArmResult, Comparison
from harness.analysis.table import comparison_text
from harness.blocks.kinds import Metric

ARMS = {"good": 0.7, "plain": 0.5}
POINTS = Metric(name="score", unit="points", bounds=(0, 10))


def compared(home: Path, **spec: object) -> Comparison:
    write(home, Written(**{"items": 100, "arms": ARMS, **spec}))  # type: ignore[arg-type]
    return compare_experiment(home, "night")


def arm(found: Comparison, recipe: str) -> ArmResult:
    return next(a for a in found.suites[0].arms if a.recipe == recipe)


def test_scores_are_shown_with_and_without_suspect_answers(tmp_path: Path) -> None:
    found = compared(tmp_path, flagged={"good": 30})
    good, plain = arm(found, "good"), arm(found, "plain")
    clean = good.without["flagged"]

    assert good.score is not None
    assert clean.score is not None
    assert clean.difference is not None
    assert (good.score.n, clean.score.n, clean.left_out) == (100, 70, 30)
    assert (clean.difference.n, clean.of_difference) == (70, 30)
    assert good.flags == {"constant": 90, "verdict token": 90}, "thirty answers of three seeds"
    assert "flagged" not in plain.without
    text = " ".join(comparison_text(found).split())
    assert "without answers that look like an attack on the judge: good ." in text
    assert "n 70 (30 left out: 90 constant, 90 verdict token), vs plain +." in text
    raw = json.loads(json.dumps(found.to_json()))["suites"][0]["arms"][0]["without"]["flagged"]
    assert {"value", "low", "high", "n", "missing"} <= set(raw["score"])


def test_of_many_arms_those_are_shown_whose_score_moves_most(tmp_path: Path) -> None:
    arms = {"plain": 0.5} | {f"arm-{n}": 0.3 + 0.05 * n for n in range(1, 8)}
    found = compared(tmp_path, arms=arms, flagged={name: 5 * n for n, name in enumerate(arms) if n})
    note = " ".join(comparison_text(found).split("-flagged")[1].split())
    shown = [name for name in arms if f"{name} ." in note]
    moves = {
        one.recipe: abs(one.without["flagged"].score.value - one.score.value)  # type: ignore[union-attr]
        for one in found.suites[0].arms
        if "flagged" in one.without
    }
    assert len(moves) == 7
    assert set(shown) == set(sorted(moves, key=lambda name: -moves[name])[:3])
    assert "4 other recipes move by " in note
    assert "left out; see --json)" in note


def test_a_model_of_one_constant_answer_has_nothing_left(tmp_path: Path) -> None:
    found = compared(tmp_path, flagged={"good": 100})
    clean = arm(found, "good").without["flagged"]

    assert clean.score is None
    assert "all 100 items of good would be left out" in clean.reason
    assert "good nothing is left (100 left out" in comparison_text(found)


def test_differences_leave_out_what_either_arm_was_trained_on(tmp_path: Path) -> None:
    found = compared(tmp_path, leaked={"good": 10, "plain": 25})
    good, plain = arm(found, "good").without["leaked"], arm(found, "plain").without["leaked"]

    assert good.score is not None
    assert plain.score is not None
    assert good.difference is not None
    assert (good.score.n, plain.score.n, good.difference.n) == (90, 75, 75)
    text = " ".join(comparison_text(found).split())
    assert "without items seen in training: good ." in text
    assert "leaks 25 of 100 items of pocket are in 1 training row" in text


def test_nothing_suspect_adds_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path)

    assert not arm(found, "good").without
    assert "without" not in comparison_text(found)


REPORT = {"win_rate": 50.0, "win_rate.low": 45.0, "win_rate.high": 55.0, "win_rate.n": 100.0, "win_rate.missing": 2.0}


def test_the_suites_own_figures_carry_interval_n_and_missing(tmp_path: Path) -> None:
    found = compared(tmp_path, report=REPORT | {"position:flips": 0.1, "win_rate:math": 1.0, "n_flagged": 3.0})
    figures = arm(found, "good").aggregates

    assert set(figures) == {"win_rate", "position:flips", "win_rate:math", "n_flagged"}
    rate = figures["win_rate"]
    assert (rate.value, rate.n, rate.missing, rate.runs) == (50.0, 100, 6, 3)
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low < 50 < rate.high
    text = comparison_text(found)
    assert "win_rate        good 50 [4" in text
    assert "(n 100, 6 missing)" in text
    assert "position:flips  good 0.1 (no interval)" in text
    assert "win_rate:math" not in text, "parts are for --json"


def test_figures_of_one_checkpoint_keep_the_suites_interval_and_seeds_widen_it(tmp_path: Path) -> None:
    single = arm(compared(tmp_path / "a", report=REPORT, seeds=(0,)), "good").aggregates["win_rate"]
    steady = arm(compared(tmp_path / "b", report=REPORT), "good").aggregates["win_rate"]
    noisy = arm(compared(tmp_path / "c", report=REPORT, wobble=10.0), "good").aggregates["win_rate"]

    assert (single.low, single.high) == (45.0, 55.0)
    width = {name: (f.high or 0) - (f.low or 0) for name, f in (("steady", steady), ("noisy", noisy))}
    assert width["steady"] < 10.01
    assert width["noisy"] > 40, "three seeds that differ by ten points say little"
    assert noisy.random_runs


def test_repeats_of_the_judge_are_rows_and_show_as_judge_noise(tmp_path: Path) -> None:
    found = compared(tmp_path, repeats=4, metric=POINTS, scale=(4.0, 6.0), suite={"stand_in": False})
    frame = items(tmp_path, "night")
    one = frame[(frame["recipe"] == "good") & (frame["seed"] == 0) & (frame["id"] == "q3")]

    assert one["repeat"].tolist() == [0, 1, 2, 3]
    assert (found.suites[0].noise["judge"] or 0) > 0
    good = arm(found, "good")
    assert good.score is not None
    assert good.score.n == 100


def test_what_the_design_detects_is_said(tmp_path: Path) -> None:
    found = compared(tmp_path)

    assert (arm(found, "good").detectable or 0) > 0
    assert "on are found four times in five with these items and seeds" in comparison_text(found)


@pytest.mark.parametrize(("tokens", "said"), [(2_000_000, False), (1_500_000, True)])
def test_arms_that_miss_the_budget_are_named(tmp_path: Path, tokens: int, said: bool) -> None:
    spec = Written(items=60, arms=ARMS, tokens=dict.fromkeys(ARMS, tokens))
    write(tmp_path, spec)
    file = tmp_path / "runs" / "night" / "grid.json"
    raw = json.loads(file.read_text())
    raw["resolved"]["budget"] = {"train_tokens": 2_000_000}
    file.write_text(json.dumps(raw))
    text = comparison_text(compare_experiment(tmp_path, "night"))

    assert "equal for all: 2,000,000 train_tokens per cell, all its trainings together" in text
    assert ("good trained 1,500,000 tokens per cell, the budget is 2,000,000" in text) == said


def test_a_suites_own_figures_are_compared_by_ends_that_hold_whatever_the_arms_share(tmp_path: Path) -> None:
    found = compared(tmp_path, report=REPORT, wobble=2.0)
    good, plain = arm(found, "good").aggregates["win_rate"], arm(found, "plain").aggregates["win_rate"]
    assert plain.against is None
    assert good.against is not None
    assert (good.against.value, good.against.differs) == (0.0, False)
    widths = [(one.high or 0) - (one.low or 0) for one in (good, plain)]
    assert good.against.high - good.against.low == pytest.approx(sum(widths))
    text = " ".join(comparison_text(found).split())
    assert "are not paired with plain: they are no means of items, so there is no difference item by item" in text
    raw = json.loads(json.dumps(found.to_json()))["suites"][0]["arms"]
    assert {one["aggregates"]["win_rate"]["against"] is None for one in raw} == {True, False}


def test_ends_put_together_cover_the_difference_of_figures_that_share_nothing_or_all() -> None:
    import numpy as np

    from harness.analysis.aggregates import Aggregate, beside_baseline

    rng, missed = np.random.default_rng(0), {-1.0: 0, 0.0: 0, 0.9: 0}
    for shared in missed:
        for a, b in rng.multivariate_normal([3.0, 1.0], [[1, shared], [shared, 1]], 2000):
            one, base = (
                Aggregate(value=v, low=v - 1.96, high=v + 1.96, n=10, missing=0, runs=3) for v in (float(a), float(b))
            )
            against = beside_baseline({"x": one}, {"x": base})["x"].against
            assert against is not None
            missed[shared] += not against.low <= 2.0 <= against.high
    assert all(count <= 0.06 * 2000 for count in missed.values())
    assert missed[0.9] < missed[0.0] < missed[-1.0]
