"""The check of training rows in plan and run: before every finetune, shared, and kept apart from the model's key."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.grid import read_grid
from harness.analysis.leaks import COLUMNS, affected, found, unchecked
from harness.errors import StageFailed
from harness.loop import inputs, leaks
from harness.loop.clock import Timer
from harness.loop.grid import grid_document
from harness.loop.job import Job
from harness.loop.plan import Plan
from harness.loop.run import write_grid
from harness.loop.stage import Stage
from harness.records import table
from harness.records.example import Example
from harness.store.artifacts import Store
from harness.store.home import Home

from .conftest import Make

TWICE = """
recipe: twice
loop: {iterations: 2, start_from: previous}
steps:
  - {finetune: sft, as: first}
  - {select: sample, keep: 8}
  - {finetune: sft, as: second}
"""
AFRESH = TWICE.replace("twice", "afresh").replace("start_from: previous", "start_from: student")


def actions(plan: Plan) -> Counter[str]:
    return Counter(stage.action for stage in plan.stages.values())


def of(plan: Plan, action: str) -> list[Stage]:
    return [stage for stage in plan.stages.values() if stage.action == action]


def test_every_finetune_has_its_check_and_seeds_share_it(make: Make) -> None:
    plan = make(TWICE, overrides=("seeds=3",))
    assert actions(plan)["leaks"] == 4
    assert actions(plan)["finetune"] == 12
    trained = {stage.inputs for stage in of(plan, "finetune")}
    assert {stage.inputs for stage in of(plan, "leaks")} == trained
    assert of(plan, "clean") == []


def test_flags_change_no_models_key_and_allow_looks_for_nothing(make: Make) -> None:
    def models(*settings: str) -> set[str]:
        return {stage.key for stage in of(make(TWICE, overrides=settings), "finetune")}

    flagged = models()
    assert models("leaks=allow") == models("leaks.words=8") == flagged
    assert models("leaks=drop").isdisjoint(flagged)
    assert actions(make(TWICE, overrides=("leaks=allow",)))["leaks"] == 0


def test_another_suite_is_another_check_but_not_another_model(make: Make) -> None:
    one, other = make(TWICE), make(TWICE, overrides=("pocket.count=9",))
    assert {s.key for s in of(one, "finetune")} == {s.key for s in of(other, "finetune")}
    assert {s.key for s in of(one, "leaks")}.isdisjoint(s.key for s in of(other, "leaks"))


def test_under_drop_the_training_reads_what_the_check_left(make: Make) -> None:
    plan = make(TWICE, overrides=("leaks=drop",))
    for stage in of(plan, "finetune"):
        (source,) = stage.inputs
        clean = plan.stages[source.key]
        assert clean.action == "clean"
        assert plan.stages[str(clean.leaks)].inputs == clean.inputs
        assert clean.leaks in clean.parents


def test_a_model_answers_for_all_rows_behind_its_weights(make: Make) -> None:
    """`second` starts from `first`, and with start_from: previous the second iteration from the first one's model."""
    before, after = make(TWICE).cells[0].turns
    assert (len(before.leaks), len(after.leaks)) == (2, 4)
    assert set(before.leaks) < set(after.leaks)
    assert set(before.leaks) <= set(before.stages)
    for turn in make(AFRESH).cells[0].turns:
        assert len(turn.leaks) == 2
    assert all(turn.leaks == () for turn in make(TWICE, overrides=("leaks=drop",)).cells[0].turns), "nothing is left"


# --- what a worker does -----------------------------------------------------------------------------------------------
def job(store: Store, stage: Stage) -> Job:
    return Job(stage, store, None, Timer(), lambda done, total: None)  # type: ignore[arg-type]


def work(store: Store, stage: Stage) -> dict[str, object]:
    from harness.loop.work import run

    keep, result = run(job(store, stage))
    return store.commit(stage.kind, stage.key, keep, result)


def pool(store: Store, plan: Plan, *texts: str) -> None:
    """Puts given rows where the plan's pool would be."""
    (source,) = of(plan, "source")
    rows = [
        Example(id=f"p/{k}", messages=({"role": "user", "content": text}, {"role": "assistant", "content": "so ."}))
        for k, text in enumerate(texts)
    ]
    folder = store.work("data", source.key)
    table.write(folder / inputs.ROWS, rows)
    table.write_dropped(folder / inputs.DROPPED, ())
    store.commit("data", source.key, (inputs.ROWS, inputs.DROPPED), {"rows": len(rows)})


def first_check(plan: Plan) -> Stage:
    return next(stage for stage in of(plan, "leaks") if stage.inputs[0].kind == "data")


def test_a_leaked_row_is_told_and_dropped_with_its_reason(make: Make, tmp_path: Path) -> None:
    plan = make("recipe: one\nsteps: [{finetune: sft}]", overrides=("leaks=drop",))
    suite = plan.experiment.suites[0]
    test, dev = (suite.block.items(split)[0] for split in ("test", "dev"))
    home = Home(tmp_path / "home").prepare()
    store = Store(home)
    pool(store, plan, "how do bees see ?", f"please : {test.turns[0]}", dev.turns[0])
    check = first_check(plan)
    manifest = work(store, check)
    assert manifest["rows"] == 3
    report = manifest["report"]["suites"]["pocket"]  # type: ignore[index]
    assert {split: counts["affected"] for split, counts in report.items()} == {"test": 1, "dev": 1}
    (clean,) = of(plan, "clean")
    cleaned = work(store, clean)
    assert cleaned["rows"] == 1
    assert cleaned["dropped"] == {"test item of pocket": 1, "dev item of pocket": 1}
    write_grid(plan, home)
    grid = read_grid(home.path, "small")
    assert affected(home.path, "small").empty, "such rows are not trained"
    assert {(f.split, f.policy, f.affected, f.rows) for f in found(grid)} == {
        ("test", "drop", 1, 1),
        ("dev", "drop", 1, 1),
    }
    assert unchecked(grid) == 0

    pool_of_leaks = replace(check, label="again")
    assert pool_of_leaks.key == check.key, "the label is no part of the identity"


def test_all_rows_leaked_is_a_failed_stage_not_an_empty_training(make: Make, tmp_path: Path) -> None:
    plan = make("recipe: one\nsteps: [{finetune: sft}]", overrides=("leaks=drop",))
    store = Store(Home(tmp_path / "home").prepare())
    pool(store, plan, plan.experiment.suites[0].block.items("test")[0].turns[0])
    work(store, first_check(plan))
    with pytest.raises(StageFailed, match="leaves no rows \\(1 test item of pocket\\)"):
        leaks.clean(job(store, of(plan, "clean")[0]))


def test_affected_items_are_told_per_cell(make: Make, tmp_path: Path) -> None:
    plan = make("recipe: one\nsteps: [{finetune: sft}]", overrides=("seeds=2",))
    item = plan.experiment.suites[0].block.items("test")[3]
    home = Home(tmp_path / "home").prepare()
    store = Store(home)
    write_grid(plan, home)
    assert unchecked(read_grid(home.path, "small")) == 1
    assert list(affected(home.path, "small").columns) == list(COLUMNS)
    pool(store, plan, item.turns[0], f"please {item.turns[0]}", "how do bees see ?")
    work(store, first_check(plan))
    frame = affected(home.path, "small")
    assert frame[["recipe", "seed", "iteration", "suite", "split", "item", "rows"]].values.tolist() == [
        ["one", seed, 1, "pocket", "test", item.id, 2] for seed in (0, 1)
    ]
    assert grid_document(plan)["cells"][0]["iterations"][0]["leaks"]
