"""Comparisons find the planted truth, say so when they cannot, and refuse what is unlike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from written_experiments import Written, write

from harness.analysis.compare import compare_experiment
from harness.analysis.result import ArmResult, Comparison
from harness.analysis.table import comparison_text
from harness.blocks.kinds import Metric
from harness.errors import CannotTell


def compared(home: Path, spec: Written) -> Comparison:
    write(home, spec)
    return compare_experiment(home, spec.name)


def arm(comparison: Comparison, recipe: str) -> ArmResult:
    return next(a for a in comparison.suites[0].arms if a.recipe == recipe)


def test_a_planted_difference_is_found_and_a_tie_is_called_one(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(arms={"good": 0.7, "plain": 0.5, "same": 0.5, "bad": 0.3}))

    assert [arm(found, name).verdict for name in ("good", "plain", "same", "bad")] == [
        "better",
        "baseline",
        "cannot tell",
        "worse",
    ]
    assert found.suites[0].arms[0].recipe == "good"
    assert {frozenset(g) for g in found.suites[0].groups} == {
        frozenset({"good"}),
        frozenset({"plain", "same"}),
        frozenset({"bad"}),
    }
    assert found.family == 3
    difference = arm(found, "good").difference
    assert difference is not None
    assert difference.low < 0.2 < difference.high


def test_claims_are_about_the_last_iteration_and_the_history_is_kept(tmp_path: Path) -> None:
    good = arm(compared(tmp_path, Written(iterations=3)), "good")

    assert list(good.history) == [1, 2, 3]
    assert good.history[3] == good.score


def test_fewer_than_three_seeds_give_a_checkpoint_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(seeds=(0,)))

    assert {a.verdict for a in found.suites[0].arms} == {"checkpoint difference", "baseline"}
    good = arm(found, "good")
    assert good.difference is not None
    assert good.exact is not None
    assert (good.test, good.exact.test) == ("t over items", "mcnemar")
    assert (good.difference.p < 0.05) == (good.difference.low > 0 or good.difference.high < 0)
    assert good.difference.p != good.exact.p, "each test has its own field"
    assert "bootstrap on items, one checkpoint each, not corrected: good mcnemar" in comparison_text(found)
    assert good.exact.low < good.difference.value < good.exact.high
    assert found.suites[0].groups == ()
    assert found.suites[0].scope == "these checkpoints only (1 training seed; three are needed)"
    plan = arm(found, "same").settle
    assert plan is not None
    assert plan.more_runs is None or plan.more_runs >= 2


def test_without_variation_no_power_is_claimed(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(scale=(0.0, 0.0), items=16))

    plan = arm(found, "good").settle
    assert plan is not None
    assert plan.detectable is None
    assert "good: no variation was seen, so power is unknown" in comparison_text(found)


@pytest.mark.parametrize("spec", [{"scale": (5.0, 5.0)}, {"scale": (4.0, 6.0), "missing": {"good": 5}}])
def test_points_without_bounds_are_not_told_where_grades_are_missing_or_alike(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    found = compared(tmp_path, Written(metric=Metric(name="length", unit="characters"), items=40, **spec))

    good = arm(found, "good")
    assert (good.verdict, good.difference) == ("cannot tell", None)
    assert "the metric has no bounds" in good.reason
    assert f"good: {good.reason}"[:60] in comparison_text(found)


def test_the_judges_noise_is_not_called_0_where_it_was_not_measured(tmp_path: Path) -> None:
    model = {"judge": {"block": "rubric", "version": 1}, "stand_in": False, "label": "model judge (rubric)"}
    read = compared(tmp_path / "a", Written(suite=model, items=60))
    program = compared(tmp_path / "b", Written(items=60))

    assert read.suites[0].noise["judge"] is None
    assert "judge -" in comparison_text(read)
    assert read.to_json()["suites"][0]["arms"][0]["verdict"]
    assert program.suites[0].noise["judge"] == 0.0
    assert "judge 0%" in comparison_text(program)


def test_what_a_suite_says_of_itself_stands_beside_its_figures(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(suite={"notes": ["subset: the first 40 items only"]}, items=40))

    assert "subset: the first 40 items only" in comparison_text(found)
    assert found.to_json()["suites"][0]["notes"] == ["subset: the first 40 items only"]


def test_the_two_corrections_behind_groups_are_said(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(arms={"good": 0.7, "plain": 0.5, "same": 0.5, "bad": 0.3}))

    rule = "pairs with plain as in p Holm; the 3 others by a Holm correction of their own"
    assert found.suites[0].groups_rule == rule
    assert "by a Holm correction of their own" in " ".join(comparison_text(found).split())


def test_a_costlier_winner_is_marked(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(tokens={"good": 205_000, "plain": 41_000}))

    assert arm(found, "good").words == "better, 5x tokens"


def test_lower_may_be_better(tmp_path: Path) -> None:
    metric = Metric(name="errors", binary=True, higher_is_better=False)
    found = compared(tmp_path, Written(metric=metric))

    assert arm(found, "good").verdict == "worse"
    assert [a.recipe for a in found.suites[0].arms][-1] == "good"


def test_an_unfinished_seed_is_left_out_of_both_arms_and_said(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(seeds=(0, 1, 2, 3), unfinished=[("good", 3)]))

    difference = arm(found, "good").difference
    assert difference is not None
    assert difference.runs == 3
    assert "good: 1 unfinished stage, so cells are left out" in found.warnings


def test_missing_grades_are_counted_and_widen(tmp_path: Path) -> None:
    whole = compared(tmp_path / "a", Written())
    holes = compared(tmp_path / "b", Written(missing={"good": 20}))

    assert holes.suites[0].missing == 60
    assert arm(holes, "good").missing == {"no score in the verdict": 60}
    narrow, wide = arm(whole, "good").difference, arm(holes, "good").difference
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > narrow.high - narrow.low + 0.04


def test_other_items_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, Written(other_items=["good"]))

    with pytest.raises(
        CannotTell, match=r"good and plain were scored on different items.*400 only in good \(such as other0\)"
    ):
        compare_experiment(tmp_path, "night")


def test_nothing_graded_is_no_comparison(tmp_path: Path) -> None:
    write(tmp_path, Written(arms={"good": 0.5}, baseline=None, seeds=(0,), iterations=1, unfinished=[("good", 0)]))

    with pytest.raises(CannotTell, match="no recipe has a finished evaluation on the test split"):
        compare_experiment(tmp_path, "night")


def test_costs_rows_and_dropped_rows_stand_beside_the_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(iterations=2))
    cost = arm(found, "good").cost

    assert (cost.rows, cost.train_tokens, cost.generated_tokens) == (200, 41_000, 1_000)
    assert cost.dropped == {"rank": 180, "duplicate": 14}
    assert cost.seconds_per_seed == pytest.approx(12.0)  # two iterations of training, answering and grading, 2 s each
    assert found.spent == {"judge": 0, "teacher": 3_000}


def test_training_options_that_differ_are_shown(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(step_options={"good": {"learning_rate": 0.01}}))

    assert found.overrides == {"good": {"sft.learning_rate": 0.01}}


def test_other_dtypes_are_a_warning(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(dtype={"good": "bfloat16"}))

    assert any(line.startswith("good answered with transformers bfloat16, plain with") for line in found.warnings)


def test_without_a_baseline_the_first_recipe_is_one(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(baseline=None))

    assert found.suites[0].baseline == "good"
    assert "no baseline is set: compared with good, the first recipe" in found.warnings


def test_three_data_draws_are_the_runs(tmp_path: Path) -> None:
    found = compared(tmp_path, Written(data_seeds=(0, 1, 2), seeds=(0, 1), items=100))

    difference = arm(found, "good").difference
    assert difference is not None
    assert difference.runs == 3
    assert found.suites[0].scope == "3 data draws and their training seeds"


def test_the_document_is_json_and_holds_every_number(tmp_path: Path) -> None:
    document = json.loads(json.dumps(compared(tmp_path, Written()).to_json(), allow_nan=False))
    good = next(a for a in document["suites"][0]["arms"] if a["recipe"] == "good")

    assert {"value", "low", "high", "n", "missing", "runs"} <= set(good["score"])
    assert {"p", "noise_shares"} <= set(good["difference"])
    assert good["verdict_words"] == "better"


def test_the_table_says_it_in_120_columns(tmp_path: Path) -> None:
    names = {"magpie-with-a-long-name[top.keep=5%]": 0.7, "plain": 0.5, "same": 0.5}
    spec = Written(
        iterations=2, arms=names, missing={"same": 4}, tokens={"magpie-with-a-long-name[top.keep=5%]": 205_000}
    )
    text = comparison_text(compared(tmp_path, spec), wall=168.2)
    lines = text.splitlines()

    assert max(map(len, lines)) <= 120
    assert lines[0] == "night   3 recipes × 3 seeds × 2 iterations   168 s   0 failed stages"
    assert lines[1] == "test split, pocket v1, 400 items, 12 grades missing, ORACLE judge (programmatic)"
    assert any(line.startswith("magpie-with") and line.endswith("better, 5x tokens") for line in lines)
    assert any(line.startswith("untuned") for line in lines)
    for word in ("groups", "noise", "scope", "settle", "dropped", "spent", "next"):
        assert any(line.startswith(word) for line in lines), word
    assert "12 grades missing" in text
    assert "180 rank, 14 duplicate" in text
