"""What a replay writes: layout, names, points, params, inputs, tables and figures; against a real SQLite store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CannotTell, UserError
from harness.store.journal import read as read_journal
from harness.tracking.points import Point
from harness.tracking.sink import replay
from harness.tracking.tracker import Run, Tracker
from harness.tracking.units import Batch

PARENT = "grid-plan00000000"
ALL, TOP = "all-data/student/s0", "top[top.keep=5%]/student/s0"
Look = Callable[..., Any]


@pytest.fixture(scope="module")
def written(new_world: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished experiment that was written once."""
    world = new_world(tmp_path_factory.mktemp("written")).begin().finish()
    assert replay(world.home, "trial", {}) is True
    return world


@pytest.fixture(scope="module")
def seen(written: Any, look: Look) -> Any:
    return look(written)


def test_one_parent_and_one_child_per_cell(seen: Any) -> None:
    children = {n for n, run in seen.runs.items() if "mlflow.parentRunId" in run.data.tags}
    assert set(seen.runs) - children == {PARENT}
    assert children == {f"{r}/student/s{s}" for r in ("all-data", "top[top.keep=5%]") for s in (0, 1, 2)}
    parent = seen.runs[PARENT].info.run_id
    assert {seen.runs[n].data.tags["mlflow.parentRunId"] for n in children} == {parent}
    assert {run.info.status for run in seen.runs.values()} == {"FINISHED"}
    assert {run.data.tags["loopbench.judge.pocket"] for run in seen.runs.values()} == {"ORACLE judge (programmatic)"}


def test_scores_by_iteration_carry_bounds_n_and_missing(seen: Any) -> None:
    history = seen.history()[ALL]
    values = [(step, round(value * 11)) for step, _, value in history["test/pocket/accuracy"]]
    assert values == [(0, 1), (1, 4), (2, 5)], "iteration 0 is the untuned student; 11 of 12 items have a grade"
    for part in ("low", "high", "n", "missing"):
        assert [step for step, _, _ in history[f"test/pocket/accuracy.{part}"]] == [0, 1, 2]
    assert {value for _, _, value in history["test/pocket/accuracy.n"]} == {12.0}
    assert {value for _, _, value in history["test/pocket/accuracy.missing"]} == {1.0}
    at = {part: history[f"test/pocket/accuracy{part}"][1][2] for part in ("", ".low", ".high")}
    assert 0 < at[".low"] < at[""] < at[".high"] < 1
    assert "dev/pocket/accuracy" in history
    assert [value for _, _, value in history["test/pocket/spread"]] == [0.25] * 3, "the suite's own aggregate"
    assert history["test/pocket/accuracy:math"][1][2] == pytest.approx(2 / 5)


def test_rows_costs_and_curves(seen: Any) -> None:
    history = seen.history()[ALL]
    assert [(step, value) for step, _, value in history["data/top/rows"]] == [(1, 5.0), (2, 5.0)]
    assert history["data/top/dropped"][0][2] == 15.0
    assert history["data/top/dropped:IFD_1"][0][2] == 3.0, "characters that MLflow refuses are replaced"
    assert [(step, value) for step, _, value in history["cost/train_tokens"]] == [(1, 300.0), (2, 300.0)]
    assert [value for _, _, value in history["cost/seconds"]] == [1.0, 1.0]
    assert [value for _, _, value in history["cost/evaluation/judged_tokens"]] == [14.0, 7.0]
    loss = [(step, value) for step, _, value in history["train/sft/loss"]]
    assert loss == [(s + 4 * i, 2.0 / s) for i in (0, 1) for s in (1, 2, 3, 4)], "steps go on in iteration 2"
    assert "train/sft/epoch" not in history


def test_params_are_what_differs_between_cells(seen: Any) -> None:
    assert seen.runs[ALL].data.params == {"recipe": "all-data", "seed": "0"}
    assert seen.runs[TOP].data.params == {"recipe": "top[top.keep=5%]", "seed": "0", "top.keep": "5%"}
    assert seen.runs[PARENT].data.params == {}


def test_the_configuration_is_an_artifact_without_passwords(seen: Any) -> None:
    text = seen.text(PARENT, "config.yaml")
    assert "experiment: trial" in text
    assert "secret" not in text
    assert "http://***@judge:1/v1" in text


def test_datasets_are_inputs_with_digests(seen: Any, written: Any) -> None:
    inputs = seen.runs[ALL].inputs.dataset_inputs
    given = {(entry.tags[0].value, entry.dataset.name): entry.dataset.digest for entry in inputs}
    pool = written.store.manifest("data", "pool")["files"]["rows.parquet"]
    assert given["pool", "toys"] == pool[:32]
    assert given["evaluation", "pocket test"] == ("5e7" * 20)[:32]
    assert len([context for context, _ in given if context == "training"]) == 2, "one per iteration"
    assert len(inputs) == len(given), "no input twice"


def test_every_graded_item_is_in_a_table(seen: Any) -> None:
    assert seen.artifacts(ALL) == [
        "items/dev/pocket/iteration-1.json",
        "items/test/pocket/iteration-1.json",
        "items/test/pocket/iteration-2.json",
    ]
    assert "items/untuned/student/test/pocket/iteration-0.json" in seen.artifacts(PARENT)
    table = json.loads(seen.text(ALL, "items/test/pocket/iteration-1.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == 12
    assert rows[0]["accuracy"] == 1.0
    assert rows[0]["answer"] == "answer 0\n\nsecond é"
    assert (rows[11]["accuracy"], rows[11]["missing"]) == (None, "no verdict")
    listed = json.loads(seen.runs[ALL].data.tags["mlflow.loggedArtifacts"])
    assert {"path": "items/test/pocket/iteration-1.json", "type": "table"} in listed


def test_a_figure_per_suite(seen: Any) -> None:
    assert "figures/pocket.png" in seen.artifacts(PARENT)


def test_points_carry_the_times_of_the_artifacts(seen: Any, written: Any) -> None:
    key = f"{ALL}-g-1-test"
    created = round(written.store.manifest("grades", key)["created"] * 1000)
    assert seen.history()[ALL]["test/pocket/accuracy"][1][1] == created
    first = next(event for event in read_journal(written.home.journal_file("trial")))
    assert seen.runs[PARENT].info.start_time == first["time"] * 1000


def test_a_second_replay_changes_nothing(seen: Any, written: Any, look: Look) -> None:
    before = seen.history()
    replay(written.home, "trial", {})
    again = look(written)
    assert again.history() == before
    assert {n: r.info.run_id for n, r in again.runs.items()} == {n: r.info.run_id for n, r in seen.runs.items()}


def test_what_finishes_later_is_added(world: Any, look: Look) -> None:
    world.begin().finish("pool", *world.cell_keys(ALL))
    assert replay(world.home, "trial", {}) is False
    part = look(world)
    assert part.runs[ALL].info.status == "KILLED", "the untuned student is not evaluated yet"
    assert TOP not in part.runs, "nothing of it is done"
    world.fail(f"{TOP}-sft-1")
    world.finish(*(k for k in world.stages if "untuned" in k))
    replay(world.home, "trial", {})
    part = look(world)
    assert part.runs[ALL].info.status == "FINISHED"
    assert part.runs[TOP].info.status == part.runs[PARENT].info.status == "FAILED"
    world.finish()
    assert replay(world.home, "trial", {}) is True
    whole = look(world)
    assert {run.info.status for run in whole.runs.values()} == {"FINISHED"}
    assert whole.history()[ALL] == part.history()[ALL]
    assert part.history()[PARENT] == {}, "the differences of a part of the cells are not final"
    assert {len(found) for found in whole.history()[PARENT].values()} == {1}
    assert "| recipe |" in part.runs[PARENT].data.tags["mlflow.note.content"]


def test_another_plan_is_another_parent(world: Any) -> None:
    world.begin().finish()
    replay(world.home, "trial", {})
    world.rename("next" + "1" * 60)
    world.begin()
    replay(world.home, "trial", {})
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{world.home.path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    parents = [run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(parents) == ["grid-next11111111", PARENT]
    assert len(runs) == 14


def test_the_comparison_with_the_baseline_is_on_the_parent(seen: Any) -> None:
    history = seen.history()[PARENT]
    parts = ("", ".low", ".high", ".n", ".runs", ".missing")
    scores = {f"score/pocket/accuracy/{name}{part}" for name in ("all-data", "top_top.keep_5") for part in parts}
    assert set(history) == scores | {f"delta/pocket/accuracy/top_top.keep_5{part}" for part in (*parts, ".p_holm")}
    ((step, _, value),) = history["delta/pocket/accuracy/top_top.keep_5"]
    low, high = (history[f"delta/pocket/accuracy/top_top.keep_5.{part}"][0][2] for part in ("low", "high"))
    assert step == 2
    assert low < value < high
    assert value == pytest.approx(3 / 11, abs=0.05)
    document = json.loads(seen.text(PARENT, "comparison.json"))
    assert document["suites"][0]["baseline"] == "all-data"
    note = seen.runs[PARENT].data.tags["mlflow.note.content"]
    assert "| recipe | accuracy | vs all-data | p Holm | verdict |" in note
    assert "ORACLE judge (programmatic)" in note


def test_without_a_finished_evaluation_the_parent_says_so(world: Any, look: Look) -> None:
    world.begin().finish("pool", *(key for key in world.stages if "untuned" in key))
    replay(world.home, "trial", {})
    assert look(world).history()[PARENT] == {}


def test_an_experiment_that_never_ran_is_refused(world: Any) -> None:
    with pytest.raises(CannotTell, match="was never run in"):
        replay(world.home, "other", {})


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns"])
def test_a_file_store_is_refused(world: Any, uri: str) -> None:
    world.begin().finish()
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI names a folder"):
        replay(world.home, "trial", {"MLFLOW_TRACKING_URI": uri})


def test_an_experiment_in_the_trash_is_refused(world: Any) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{world.home.path / 'mlflow.db'}")
    client.delete_experiment(client.create_experiment("trial"))
    world.begin()
    with pytest.raises(UserError, match="was deleted in MLflow.*mlflow experiments restore -x"):
        replay(world.home, "trial", {})


@pytest.mark.parametrize(("points", "calls"), [(0, 1), (5, 1), (900, 1), (901, 2)])
def test_the_mark_is_sent_with_the_last_points(points: int, calls: int) -> None:
    sent: list[dict[str, Any]] = []

    class Client:
        def search_runs(self, *_: Any, **__: Any) -> Any:
            return type("Page", (list,), {"token": None})()

        def log_batch(self, run: str, **given: Any) -> None:
            sent.append(given)

    run = Run(id="r", status="RUNNING")
    made = [Point("a", 0.0, 1, step) for step in range(points)]
    Tracker(Client(), "1", "plan").log(run, {"unit": Batch(points=made)})

    assert len(sent) == calls
    assert sum(len(call["metrics"]) for call in sent) == points
    assert [bool(call.get("tags")) for call in sent] == [False] * (calls - 1) + [True]
    assert all(len(call["metrics"]) + len(call.get("tags", ())) <= 1000 for call in sent)
