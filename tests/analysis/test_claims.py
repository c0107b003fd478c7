"""Claims: verdicts follow the planted truth, open ones say what would settle them, nothing is called true by luck."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from written_experiments import Written, write

from harness.analysis.claim_result import Claims
from harness.analysis.claim_text import claims_text
from harness.analysis.claims import claims_of_experiment
from harness.blocks.kinds import Metric
from harness.cli.main import main
from harness.records import table
from harness.records.example import Example, Message
from harness.records.hashing import file_sha256, sha256
from harness.store.artifacts import Store
from harness.store.home import Home

ARMS = {"good": 0.7, "plain": 0.5, "same": 0.5}


def claim(name: str, better: str, than: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "text": f"{better} beats {than}.", "source": "arXiv 1, table 2"} | (
        {"better": better, "than": than} | more
    )


def found(home: Path, claims: Sequence[Mapping[str, Any]], **more: Any) -> Claims:
    write(home, Written(**{"arms": ARMS} | more))
    _put(home, claims)
    return read(home)


def read(home: Path) -> Claims:
    result = claims_of_experiment(home, "night")
    assert result is not None
    return result


def _put(home: Path, claims: Sequence[Mapping[str, Any]]) -> None:
    path = Home(home).grid_file("night")
    grid = json.loads(path.read_text())
    grid["resolved"]["claims"] = list(claims)
    path.write_text(json.dumps(grid))


# --- recipes --------------------------------------------------------------------------------------------------------
def test_each_verdict_is_given_where_it_is_true(tmp_path: Path) -> None:
    claims = [claim("true", "good", "plain"), claim("false", "plain", "good"), claim("open", "same", "plain")]
    result = found(tmp_path, claims)
    assert [one.verdict for one in result.results] == ["holds", "does not hold", "cannot tell"]
    true, false, opened = result.results
    assert true.low is not None
    assert true.high is not None
    assert true.value is not None
    assert true.low < 0.2 < true.high
    assert false.value == -true.value
    assert (true.runs, true.sample, result.family) == (3, "400 items", 3)
    assert true.p is not None
    assert true.p_holm is not None
    assert true.p_holm > true.p
    assert true.settle == "settled by 400 items and 3 training seeds"
    assert "too small a difference" in opened.settle or "more" in opened.settle
    assert true.budget == "trained 41k and 41k tokens, generated 500 and 500"


def test_fewer_than_three_seeds_settle_nothing(tmp_path: Path) -> None:
    (one,) = found(tmp_path, [claim("true", "good", "plain")], seeds=(0, 1)).results
    assert (one.verdict, one.p_holm) == ("cannot tell", None)
    assert one.reason == "2 training seeds in both, and 3 are needed"
    assert one.value is not None


def test_claims_are_corrected_for_each_other(tmp_path: Path) -> None:
    arms = {"good": 0.56, "plain": 0.5}
    alone = found(tmp_path, [claim("a", "good", "plain")], arms=arms).results[0]
    many = [claim("a", "good", "plain"), *(claim(f"n{k}", "plain", "good") for k in range(40))]
    beside = found(tmp_path, many, arms=arms).results[0]
    assert alone.p is not None
    assert beside.p_holm is not None
    assert alone.p == alone.p_holm == beside.p
    assert beside.p_holm == pytest.approx(min(1.0, 41 * alone.p))


def test_by_and_margin_move_what_is_claimed(tmp_path: Path) -> None:
    claims = [
        claim("by-little", "good", "plain", by=0.05),
        claim("by-much", "good", "plain", by=0.5),
        claim("not-worse", "same", "plain", margin=0.15),
        claim("not-worse-at-all", "plain", "good", margin=0.05),
    ]
    result = found(tmp_path, claims)
    assert [one.verdict for one in result.results] == ["holds", "does not hold", "holds", "does not hold"]
    assert [one.null for one in result.results] == [0.05, 0.5, -0.15, -0.05]


def test_where_less_is_better_better_means_less(tmp_path: Path) -> None:
    errors = Metric(name="errors", binary=True, higher_is_better=False)
    claims = [claim("fewer", "plain", "good"), claim("not-more", "good", "plain", margin=0.4)]
    result = found(tmp_path, claims, metric=errors)
    assert [(one.verdict, one.side, one.null) for one in result.results] == [
        ("holds", "low", 0.0), ("holds", "low", 0.4)
    ]  # fmt: skip


def test_a_claim_about_a_category_counts_its_items_alone(tmp_path: Path) -> None:
    claims = [claim("math", "good", "plain", categories=["math"]), claim("none", "good", "plain", categories=["art"])]
    math, none = found(tmp_path, claims).results
    assert (math.verdict, math.sample, math.measure) == ("holds", "400 items", "pocket accuracy of math")
    assert (none.verdict, none.reason) == ("cannot tell", "good has no grades yet")


def test_iterations_and_the_untuned_student_are_sides(tmp_path: Path) -> None:
    claims = [claim("tuned", "good", "untuned"), claim("round", "good@2", "good@1"), claim("first", "plain@1", "good")]
    tuned, later, first = found(tmp_path, claims, iterations=2).results
    assert (tuned.verdict, tuned.runs) == ("holds", 3)
    assert later.verdict == "cannot tell"
    assert first.verdict == "does not hold"
    assert later.budget == ""


def test_unlike_budgets_are_called_so_and_missing_grades_are_counted(tmp_path: Path) -> None:
    more: dict[str, Any] = {"tokens": {"good": 82_000}, "missing": {"good": 3}}
    (one,) = found(tmp_path, [claim("true", "good", "plain")], **more).results
    assert one.budget == "NOT EQUAL: trained 82k and 41k tokens, generated 500 and 500"
    assert one.sample == "400 items (9 grades missing)"


def test_a_program_that_judges_a_real_suite_settles_nothing(tmp_path: Path) -> None:
    (one,) = found(tmp_path, [claim("true", "good", "plain")], suite={"real": True}).results
    assert one.verdict == "cannot tell"
    assert "was judged by a program" in one.reason


def test_what_was_not_scored_is_not_known(tmp_path: Path) -> None:
    unfinished = [("good", seed) for seed in (0, 1, 2)]
    result = found(tmp_path, [claim("true", "good", "plain"), claim("else", "same", "plain")], unfinished=unfinished)
    assert result.results[0].reason == "good has no grades yet"
    assert result.results[1].runs == 3
    assert any("good: 3 unfinished stages" in line for line in result.warnings)


def test_no_claim_is_no_result(tmp_path: Path) -> None:
    write(tmp_path, Written())
    assert claims_of_experiment(tmp_path, "night") is None


# --- scores and rows ------------------------------------------------------------------------------------------------
def rows(count: int, shift: float = 1.5) -> list[Example]:
    """A third of the rows is wrong and scores higher by `shift`; every tenth wrong one has no score."""
    rng = np.random.default_rng(7)
    made = []
    for k in range(count):
        defect = "wrong" if k % 3 == 0 else "truncated" if k % 3 == 1 and k % 2 else None
        value = None if k % 30 == 0 else float(rng.normal() + shift * (defect == "wrong"))
        said = (Message(role="user", content=f"q{k}"), Message(role="assistant", content="a"))
        made.append(Example(id=f"r{k}", messages=said, scores={"odd": value}, tags={"defect": defect}))
    return made


def with_scores(home: Path, recipe: str, made: Sequence[Example]) -> None:
    """Adds a finished score step to a recipe, and makes its rows those that it trains on."""
    path, store = Home(home).grid_file("night"), Store(Home(home))
    grid, key = json.loads(path.read_text()), sha256(["scored", recipe])
    folder = store.path("rows", key)
    folder.mkdir(parents=True)
    table.write(folder / "rows.parquet", made)
    files = {"rows.parquet": file_sha256(folder / "rows.parquet")}
    (folder / "manifest.json").write_text(json.dumps({"rows": len(made), "cost": {}, "timing": {}, "files": files}))
    grid["stages"][key] = {"kind": "rows", "action": "score", "label": "score", "parents": [], "models": {}}
    for cell in grid["cells"]:
        if cell["recipe"] == recipe:
            for turn in cell["iterations"]:
                turn["steps"] = {"scorer": key}
                grid["stages"][turn["train"][-1]]["reads"] = [{"key": key}]
    path.write_text(json.dumps(grid))


def scorer(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "text": "t", "scorer": "odd", "defect": "wrong", "side": "high"} | more


def test_a_score_that_finds_a_defect_and_one_that_does_not(tmp_path: Path) -> None:
    write(tmp_path, Written(arms=ARMS))
    with_scores(tmp_path, "good", rows(300))
    _put(
        tmp_path,
        [scorer("finds"), scorer("low", side="low"), scorer("cuts", defect=["truncated"]), scorer("no", scorer="ifd")],
    )
    result = read(tmp_path)
    assert [one.verdict for one in result.results] == ["holds", "does not hold", "cannot tell", "cannot tell"]
    finds, _, cuts, absent = result.results
    assert finds.value is not None
    assert finds.value > 0.8
    assert finds.sample == "90 and 150 rows (10 without a score)"
    assert "times the rows" in cuts.settle
    assert "no finished score step has ifd" in absent.reason
    assert {(one.scorer, one.defect, one.defective, one.clean) for one in result.scorers} == {
        ("odd", "wrong", 90, 150), ("odd", "truncated", 50, 150), ("odd", "any", 140, 150)
    }  # fmt: skip
    shown = claims_text(result)
    assert "AUROC of each score" in shown
    assert f"{finds.value:.2f}".lstrip("0") in shown


def test_recipes_that_share_a_score_step_can_both_be_named(tmp_path: Path) -> None:
    write(tmp_path, Written(arms=ARMS))
    with_scores(tmp_path, "good", rows(300))
    path = Home(tmp_path).grid_file("night")
    grid = json.loads(path.read_text())
    (shared,) = {turn["steps"]["scorer"] for c in grid["cells"] if c["recipe"] == "good" for turn in c["iterations"]}
    for cell in grid["cells"]:
        if cell["recipe"] == "plain":
            cell["iterations"][-1]["steps"] = {"other": shared}
    path.write_text(json.dumps(grid))
    _put(tmp_path, [scorer("one", recipe="good"), scorer("two", recipe="plain")])
    result = read(tmp_path)
    assert [one.verdict for one in result.results] == ["holds", "holds"]
    assert {(one.recipe, one.defect) for one in result.scorers} == {
        ("good", "wrong"), ("good", "truncated"), ("good", "any")
    }  # fmt: skip


def test_scores_of_two_recipes_rows_are_compared(tmp_path: Path) -> None:
    write(tmp_path, Written(arms=ARMS))
    with_scores(tmp_path, "good", rows(200, shift=6.0))
    with_scores(tmp_path, "plain", rows(100, shift=0.0))
    about = {"text": "t", "better": "good", "than": "plain"}
    _put(
        tmp_path,
        [
            {"id": "higher", "score": "odd", **about},
            {"id": "lower", "score": "odd", "side": "low", **about},
            {"id": "step", "score": "odd", "step": "scorer", **about},
            {"id": "none", "score": "reward", **about},
            {"id": "other", "score": "odd", "text": "t", "better": "good", "than": "same"},
        ],
    )
    higher, lower, step, none, other = read(tmp_path).results
    assert [one.verdict for one in (higher, lower, step)] == ["holds", "does not hold", "holds"]
    assert higher.sample == "193 and 96 rows of one data draw"
    assert (none.verdict, other.verdict) == ("cannot tell", "cannot tell")
    assert "no reward" in none.reason


# --- what is printed ------------------------------------------------------------------------------------------------
def test_the_command_prints_and_gives_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found(tmp_path, [claim("true", "good", "plain"), claim("open", "same", "plain")])
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    said = CliRunner().invoke(main, ["claims", "night"])
    assert said.exit_code == 0
    text = " ".join(said.output.split())
    assert "2 claims, 3 training seeds: 1 holds, 0 does not hold, 1 cannot tell" in text
    assert "holds true good beats plain. (arXiv 1, table 2)" in text
    assert "pocket accuracy, good - plain: +." in text
    assert "(claimed > .00, p Holm <.001)" in text
    assert "to settle it:" in text
    assert "two-sided, Holm over 2 claims; intervals are 95 % each, not corrected" in text
    document = json.loads(CliRunner().invoke(main, ["claims", "night", "--json"]).output)
    assert document["counts"] == {"holds": 1, "does not hold": 0, "cannot tell": 1}
    assert document["results"][0]["id"] == "true"
    compared = json.loads(CliRunner().invoke(main, ["compare", "night", "--json"]).output)
    assert compared["claims"] == document


def test_an_experiment_without_claims_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, Written())
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    said = CliRunner().invoke(main, ["claims", "night"], standalone_mode=False)
    assert said.return_value == 2
    assert "night makes no claims" in said.output
    assert "claims" not in json.loads(CliRunner().invoke(main, ["compare", "night", "--json"]).output)
