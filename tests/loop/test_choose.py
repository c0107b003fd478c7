"""Checkpoint choice on the dev split: a stage with keys of its own, planned whole, that never sees a test grade."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import api
from harness.blocks.kinds import Grade
from harness.engines.base import ModelSpec
from harness.errors import StageFailed, UserError
from harness.loop.choose import Choice, choose, pick
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.job import Job
from harness.loop.stage import Binding, Stage
from harness.records.evaltables import write_grades
from harness.store.artifacts import Store
from harness.store.home import Home

from .conftest import Make

CHOSEN = """
recipe: chosen
steps:
  - {finetune: sft, checkpoints: 3, choose: pocket, as: first}
  - {finetune: sft}
"""
PLAIN = """
recipe: plain
steps:
  - {finetune: sft, checkpoints: 3, as: first}
  - {finetune: sft}
"""


def of(stages: list[Stage], action: str) -> list[Stage]:
    return [stage for stage in stages if stage.action == action]


def test_the_earliest_best_wins() -> None:
    assert pick([0.1, 0.3, 0.3], True, 0) == 1
    assert pick([0.28, 0.3, 0.3], True, 0.05) == 0
    assert pick([2.0, 1.0, 3.0], False, 0) == 1
    assert pick([None, 0.0, None], True, 0) == 1
    assert pick([None, None], True, 0) is None


def test_a_choice_is_planned_with_all_its_evaluations(make: Make) -> None:
    stages = list(make(CHOSEN).stages.values())
    (choice,) = of(stages, "choose")
    first, second = of(stages, "finetune")
    dev = [s for s in of(stages, "grade") if s.split == "dev"]
    assert choice.feedback == tuple(s.key for s in dev)
    assert len(dev) == 3
    assert set(choice.parents) == {first.key, *choice.feedback}
    assert second.models["current"].stage == choice.key
    answers = [s.models["model"] for s in of(stages, "answer") if s.split == "dev"]
    assert [(m.stage, m.part) for m in answers] == [
        (first.key, "points/1"), (first.key, "points/2"), (first.key, None)
    ]  # fmt: skip
    assert len({s.key for s in stages}) == len(stages)
    seen: set[str] = set()
    for stage in stages:
        assert set(stage.parents) <= seen
        seen.add(stage.key)


def test_no_test_grade_steers(make: Make) -> None:
    plan = make(CHOSEN)
    tests = {key for key, s in plan.stages.items() if s.split == "test"}
    for stage in plan.stages.values():
        assert not tests & set(stage.feedback)
        assert not (stage.action in ("finetune", "choose") and tests & set(stage.parents))


def test_the_training_itself_is_shared_with_an_arm_that_takes_the_last(make: Make) -> None:
    plan = make(CHOSEN, PLAIN)
    trainings = [s for s in plan.stages.values() if s.action == "finetune"]
    assert len(trainings) == 3
    assert {s.models["current"].stage is None for s in trainings} == {True, False}
    (choice,) = of(list(plan.stages.values()), "choose")
    assert {s.models["current"].stage for s in trainings} == {None, choice.key, trainings[0].key}


def test_another_metric_or_margin_is_another_choice_of_the_same_training(make: Make) -> None:
    def keys(text: str) -> tuple[str, str]:
        stages = list(make(text).stages.values())
        return of(stages, "finetune")[0].key, of(stages, "choose")[0].key

    one, other = keys(CHOSEN), keys(CHOSEN.replace("as: first", "choose_within: 0.1, as: first"))
    assert one[0] == other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        ("elsewhere", "choose names the suite 'elsewhere', which the experiment does not measure"),
        ("pocket/rating9", "pocket has no metric 'rating9'; it has accuracy"),
    ],
)
def test_a_suite_or_metric_that_is_not_there_is_refused(make: Make, choose: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(CHOSEN.replace("choose: pocket", f"choose: {choose}"))


def test_a_suite_without_dev_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "items.jsonl").write_text('{"prompt": "what ?", "reference": "x"}\n')
    (tmp_path / "e.yaml").write_text(
        "experiment: e\nmodels: {student: pocket/base, judge: pocket/oracle}\n"
        "data: {pool: {use: pocket/clean, options: {rows: 8}}}\n"
        "suites: [{suite: custom, name: own, path: items.jsonl, check: exact}]\n"
        "recipes:\n- recipe: r\n  steps: [{finetune: sft, checkpoints: 2, choose: own}]\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="reads the dev split of own, which has none"):
        api.plan("e.yaml")


# --- what the stage does ----------------------------------------------------------------------------------------------
def artifacts(tmp_path: Path, values: list[list[float | None]]) -> tuple[Store, Stage]:
    """A finished training with its kept models and their dev grades, and the stage that chooses among them."""
    store = Store(Home(tmp_path / "home").prepare())
    training = store.work("model", "training")
    parts = (*(f"points/{n}" for n in range(1, len(values))), "model")
    for part in parts:
        (training / part).mkdir(parents=True)
        (training / part / "weights").write_text(part)
    store.commit("model", "training", ("model", "points"), {})
    for number, scores in enumerate(values):
        grades = [
            Grade(
                id=f"{i}",
                item=f"{i}",
                cluster=f"{i}",
                category="c",
                values={"a": score, "b": 1.0},
                missing=unread(score),
            )
            for i, score in enumerate(scores)
        ]
        write_grades(store.work("grades", f"g{number}") / "grades.parquet", grades)
        store.commit("grades", f"g{number}", ("grades.parquet",), {})
    model = Binding(spec=ModelSpec(name="m", path=None), stage="training")
    stage = Stage(
        action="choose",
        label="choose",
        models={"model": model},
        roles={"model": "model"},
        feedback=tuple(f"g{number}" for number in range(len(values))),
        data=Choice(parts, "a", True, 0.0),
    )
    return store, stage


def unread(score: float | None) -> str | None:
    return None if score is not None else "judge: unreadable"


def job(store: Store, stage: Stage) -> Job:
    return Job(stage, store, Engines(store, 1), Timer(), lambda done, total: None)


def test_the_best_model_is_linked_with_all_scores_in_the_report(tmp_path: Path) -> None:
    work = job(*artifacts(tmp_path, [[0.0, 1.0], [1.0, 1.0], [0.0, None]]))
    result = choose(work)
    assert (work.folder / "model" / "weights").read_text() == "points/2"
    assert result["report"]["figures"] == {
        "dev a 1": 0.5, "dev a 2": 1.0, "dev a 3": 0.0, "dev b 1": 1.0, "dev b 2": 1.0, "dev b 3": 1.0, "chosen": 2,
        "dev a 3 missing": 1.0,
    }  # fmt: skip
    assert result["report"]["counts"] == {"models": 3, "dev grades missing": 1}
    again = choose(work)
    assert again["report"] == result["report"]


def test_missing_dev_grades_are_counted_beside_the_means(tmp_path: Path) -> None:
    """Two means over unlike items look alike: the report says how many grades each leaves out."""
    result = choose(job(*artifacts(tmp_path, [[0.5, None, None], [0.4, 0.4, 0.4]])))
    assert result["report"]["counts"]["dev grades missing"] == 2
    assert result["report"]["figures"]["dev a 1 missing"] == 2.0
    assert "dev a 2 missing" not in result["report"]["figures"]


def test_models_without_any_grade_are_no_choice(tmp_path: Path) -> None:
    with pytest.raises(StageFailed) as failure:
        choose(job(*artifacts(tmp_path, [[None], [None]])))
    assert str(failure.value) == (
        "choose: none of 2 models has a a on the dev split: all of 2 grades are missing (2 judge: unreadable); choose "
        "by b, which have values. The trainings are kept"
    )
