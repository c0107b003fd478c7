"""The gate passes what is equal, fails what is worse, and fails closed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_experiments import Written, write

from harness.analysis.gate import GateResult, gate_experiment, write_baseline
from harness.blocks.kinds import Metric
from harness.errors import CannotTell, UserError

ARMS = {"good": 0.7, "plain": 0.5}
Changed = Callable[..., GateResult]


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """Writes a baseline file of one experiment, then gates a second one that differs as told."""

    def gate(margins: Any = None, recipe: str | None = None, before: Any = None, **after: Any) -> GateResult:
        write(tmp_path, Written(name="main", **{"arms": ARMS, **(before or {})}))
        write_baseline(tmp_path, "main", None, tmp_path / "main.json")
        write(tmp_path, Written(name="change", **{"arms": ARMS, "world": 1, **after}))
        return gate_experiment(
            tmp_path,
            "change",
            recipe=recipe,
            baseline=tmp_path / "main.json",
            margins={"accuracy": 0.1} if margins is None else margins,
        )

    return gate


def test_an_equal_candidate_passes(changed: Changed) -> None:
    result = changed()

    assert (result.status, result.exit_code) == ("passed", 0)
    assert [check.arm for check in result.checks] == ["good", "plain"]
    assert "PASSED" in result.text()
    assert "with this noise (as 3 seeds show it) this check fails" in result.text()
    rates = [check.rates.false_alarm for check in result.checks if check.rates is not None]
    assert result.false_alarm_bound == pytest.approx(sum(rates))
    assert result.to_json()["false_alarm_bound"] == result.false_alarm_bound
    assert f"the gate as a whole (2 checks) fails at most {sum(rates):.1%} of unchanged" in result.text()


def test_a_planted_regression_fails_and_names_the_recipe(changed: Changed) -> None:
    result = changed(arms={"good": 0.5, "plain": 0.5})

    assert (result.status, result.exit_code) == ("failed", 1)
    assert [check.status for check in result.checks] == ["failed", "passed"]
    assert "failed: good against good on pocket accuracy: -." in result.text()


def test_a_margin_that_the_noise_hides_cannot_be_told(changed: Changed) -> None:
    result = changed(margins={"accuracy": 0.001})

    assert (result.status, result.exit_code) == ("cannot tell", 3)
    assert "the interval reaches to both sides of the margin" in result.text()


def test_one_recipe_may_be_gated_alone(changed: Changed) -> None:
    result = changed(recipe="plain", arms={"good": 0.5, "plain": 0.5})

    assert result.status == "passed"
    assert len(result.checks) == 1


def test_where_less_is_better_a_rise_fails(changed: Changed) -> None:
    metric = Metric(name="errors", binary=True, higher_is_better=False)
    same = {"metric": metric}
    result = changed(margins={"errors": 0.1}, before=same, arms={"good": 0.9, "plain": 0.5}, **same)

    assert [check.status for check in result.checks] == ["failed", "passed"]


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ({"seeds": (0,)}, "1 training seed in both; a verdict needs 3"),
        ({"seeds": (7, 8, 9)}, "0 training seeds in both"),
        ({"unfinished": [("good", 1), ("plain", 1)]}, "1 unfinished stage"),
        ({"suite": {"version": 2}}, "unlike suites are not compared: version is 2, in the baseline 1"),
        ({"suite": {"judge": None}}, "unlike suites are not compared: judge.block is None, in the baseline oracle"),
        ({"suite": {"items": {"test": "other"}}}, "unlike suites are not compared: items is other"),
        ({"other_items": ["good", "plain"]}, "scored on different items"),
        ({"suite": {"real": True}}, "a program judged a real suite"),
        ({"arms": {"new": 0.9}, "baseline": None}, "the candidate has no grades for it"),
    ],
    ids=["one-seed", "other-seeds", "unfinished", "version", "judge", "items", "ids", "stand-in", "other-arms"],
)
def test_it_fails_closed(changed: Changed, after: dict[str, Any], reason: str) -> None:
    result = changed(**after)

    assert (result.status, result.exit_code) == ("cannot tell", 3)
    assert reason in result.text()


JUDGE = {
    "block": "rubric",
    "version": 1,
    "options": {"max_tokens": 1024, "temperature": 0.0},
    "model": "org/judge",
    "revision": "abc",
    "dtype": "bfloat16",
    "engine": "transformers",
    "prompts": "d1",
}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("block", "other", "judge.block is other, in the baseline rubric"),
        ("version", 2, "judge.version is 2, in the baseline 1"),
        ("options", {"max_tokens": 1024, "temperature": 0.7}, "judge.options.temperature is 0.7, in the baseline 0.0"),
        ("revision", "abd", "judge.revision is abd, in the baseline abc"),
        ("revision", None, "judge.revision is None, in the baseline abc"),
        ("dtype", "float32", "judge.dtype is float32, in the baseline bfloat16"),
        ("engine", "vllm", "judge.engine is vllm, in the baseline transformers"),
        ("prompts", "d2", "judge.prompts is d2, in the baseline d1"),
    ],
)
def test_another_judge_is_refused_by_the_field_that_differs(changed: Changed, name: str, value: Any, said: str) -> None:
    result = changed(before={"suite": {"judge": JUDGE}, "items": 60}, suite={"judge": JUDGE | {name: value}}, items=60)

    assert (result.status, result.exit_code) == ("cannot tell", 3)
    assert "unlike suites are not compared: " in result.text()
    assert said in result.text()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"suite": {"block": "other"}}, "suite is other, in the baseline pocket"),
        ({"suite": {"version": 2}}, "version is 2, in the baseline 1"),
        ({"suite": {"scorer": 2}}, "scorer is 2, in the baseline 1"),
        ({"suite": {"options": {"temperature": 0.7}}}, "options.temperature is 0.7, in the baseline None"),
        ({"suite": {"options": {"count": 60, "shots": 8}}}, "options.shots is 8, in the baseline None"),
        ({"template": "t2"}, "template is t2, in the baseline None"),
        ({"suite": {"items": {"test": "h2"}}}, "items is h2, in the baseline"),
        (
            {"suite": {"headline": "x", "metrics": [{"name": "accuracy"}, {"name": "x"}]}},
            "metrics is ['accuracy', 'x']",
        ),
    ],
    ids=["suite", "version", "scorer", "decoding", "shots", "template", "items", "metrics"],
)
def test_unlike_scores_are_refused_by_the_field_that_differs(
    changed: Changed, after: dict[str, Any], said: str
) -> None:
    result = changed(before={"items": 60}, items=60, **after)

    assert (result.status, result.exit_code) == ("cannot tell", 3)
    assert "unlike suites are not compared: " in result.text()
    assert said in result.text()


def test_a_baseline_of_an_older_format_says_how_to_write_it_anew(tmp_path: Path) -> None:
    write(tmp_path, Written(name="main", items=60))
    file = tmp_path / "main.json"
    write_baseline(tmp_path, "main", None, file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format_version": 1}))

    with pytest.raises(UserError, match="its format is 1, known here is 2.*writes it anew"):
        gate_experiment(tmp_path, "main", baseline=file, margins={"accuracy": 0.1})


@pytest.mark.parametrize(("revision", "refused"), [("abc", False), (None, True)])
def test_a_judges_written_name_counts_only_without_a_revision(
    changed: Changed, revision: str | None, refused: bool
) -> None:
    judge = JUDGE | {"revision": revision}
    renamed = {"judge": judge | {"model": "/models/judge"}}
    text = changed(before={"suite": {"judge": judge}, "items": 60}, suite=renamed, items=60).text()

    assert ("judge.model is /models/judge, in the baseline org/judge" in text) == refused
    assert ("unlike suites" in text) == refused


POINTS = Metric(name="score", unit="points")
RATED = Metric(name="score", unit="points", bounds=(1, 10))


@pytest.mark.parametrize(
    ("metric", "lost", "arms", "status"),
    [
        (RATED, 0, ARMS, "passed"),
        (RATED, 200, ARMS, "cannot tell"),  # the missing half could be the worst
        (POINTS, 200, ARMS, "cannot tell"),
        (RATED, 0, {"good": 2.0, "plain": 2.0}, "passed"),  # all alike: what 400 items could have hidden is within 2
        (POINTS, 0, {"good": 2.0, "plain": 2.0}, "cannot tell"),
    ],
    ids=["whole", "half-missing", "half-missing-unbounded", "alike", "alike-unbounded"],
)
def test_points_that_are_missing_or_all_alike_are_no_pass(
    changed: Changed, metric: Metric, lost: int, arms: dict[str, float], status: str
) -> None:
    spec = {"metric": metric, "scale": (4.0, 6.0) if arms is ARMS else (5.0, 5.0)}
    result = changed(margins={"score": 2.0}, before=spec, missing=dict.fromkeys(ARMS, lost), **spec)

    assert result.status == status
    if arms is not ARMS:
        assert result.false_alarm_bound is None
    if arms is not ARMS and metric is RATED:
        assert "no variation was seen, so how often this check errs is not known" in result.text()


def test_nothing_measured_is_never_a_pass(tmp_path: Path) -> None:
    result = gate_experiment(tmp_path, "night", margins={"accuracy": 0.1})

    assert (result.status, result.exit_code) == ("cannot tell", 3)
    assert "was never run" in result.text()


def test_the_experiments_own_baseline_serves_without_a_file(tmp_path: Path) -> None:
    write(tmp_path, Written(arms={"same": 0.5, "plain": 0.5}, gate={"margin": {"accuracy": 0.1}}))

    result = gate_experiment(tmp_path, "night")

    assert (result.status, result.against) == ("passed", "plain")


def test_several_candidates_need_a_name(tmp_path: Path) -> None:
    write(tmp_path, Written())

    with pytest.raises(UserError, match=r"2 recipes besides its baseline plain: name the candidate .*\(good, same\)"):
        gate_experiment(tmp_path, "night", margins={"accuracy": 0.1})
    assert gate_experiment(tmp_path, "night", recipe="good", margins={"accuracy": 0.1}).status == "passed"


def test_margins_are_mandatory_and_name_real_metrics(tmp_path: Path) -> None:
    write(tmp_path, Written(arms=ARMS))

    with pytest.raises(UserError, match="a gate needs margins"):
        gate_experiment(tmp_path, "night")
    with pytest.raises(UserError, match="no metric 'acuracy'|has a metric 'acuracy'.*did you mean accuracy"):
        gate_experiment(tmp_path, "night", margins={"acuracy": 0.1})
    for loss in (-0.1, float("inf"), float("nan")):
        with pytest.raises(UserError, match="0 or more, and finite"):
            gate_experiment(tmp_path, "night", margins={"accuracy": loss})


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, Written(arms=ARMS))

    with pytest.raises(UserError, match="did you mean good"):
        gate_experiment(tmp_path, "night", recipe="godo", margins={"accuracy": 0.1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "no baseline file"),
        ("{}", "no baseline file"),
        ("[1]", "no baseline file"),
        ('{"format": "loopbench baseline"}', "its format is None, known here is 2"),
        ('{"format": "loopbench baseline", "format_version": 2}', "this baseline file is damaged .*'arms'"),
        ('{"format": "loopbench baseline", "format_version": 2, "arms": {"good": {"pocket": {}}}}', "is damaged"),
    ],
)
def test_a_bad_baseline_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    write(tmp_path, Written(arms=ARMS))
    path = tmp_path / "main.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(UserError, match=message):
        gate_experiment(tmp_path, "night", baseline=path, margins={"accuracy": 0.1})


def test_an_unfinished_experiment_makes_no_baseline(tmp_path: Path) -> None:
    write(tmp_path, Written(arms=ARMS, unfinished=[("good", 1)]))

    with pytest.raises(CannotTell, match="good is not finished, so no baseline was written"):
        write_baseline(tmp_path, "night", None, tmp_path / "main.json")
    assert not (tmp_path / "main.json").exists()


def test_the_file_holds_items_per_seed_with_missing_ones_as_null(tmp_path: Path) -> None:
    write(tmp_path, Written(arms=ARMS, items=30, missing={"good": 2}))
    write_baseline(tmp_path, "night", "good", tmp_path / "main.json")

    document = json.loads((tmp_path / "main.json").read_text())
    side = document["arms"]["good"]["pocket"]

    assert list(document["arms"]) == ["good"]
    assert side["runs"] == [[0, 0], [0, 1], [0, 2]]
    assert [len(row) for row in side["values"]["accuracy"]] == [30, 30, 30]
    assert side["values"]["accuracy"][0][:2] == [None, None]
    assert side["identity"]["version"] == 1
    found = side["scores"]["accuracy"]
    assert (found["n"], found["missing"], found["runs"]) == (30, 6, 3)
    assert found["low"] < found["value"] < found["high"]


def test_the_document_is_json(changed: Changed) -> None:
    document = json.loads(json.dumps(changed().to_json(), allow_nan=False))

    assert document["status"] == "passed"
    assert document["exit_code"] == 0
    assert set(document["checks"][0]["rates"]) >= {"false_alarm", "miss"}
