"""`run --profile` and the forecast of a real run: what is written, what is learned from it, what is said."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from .conftest import EXPERIMENT, Run

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The folder of an experiment that was run with a profile and with MLflow, and what the command said."""
    import os
    import sys

    folder = tmp_path_factory.mktemp("profiled")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "LOOPBENCH_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "harness", "run", "tiny.yaml", "--profile"]
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


def trace(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "home" / "profiles").iterdir()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / "home" / "journal" / "tiny.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def test_the_trace_is_chromes_form_and_its_slices_nest(measured: tuple[Path, Done]) -> None:
    found = trace(measured[0])["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in found if e["ph"] == "M" and e["name"] == "process_name"}
    assert {"coordinator", "worker 1", "MLflow"} <= set(names.values())
    slices = [e for e in found if e["ph"] == "X"]
    assert {e["ph"] for e in found} == {"M", "X"}
    tracks = defaultdict(list)
    for one in slices:
        assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} <= set(one)
        assert one["ts"] >= 0
        assert one["dur"] >= 0
        assert one["pid"] in names
        tracks[one["pid"], one["tid"]].append(one)
    for track in tracks.values():
        check_nesting(track)


def check_nesting(track: list[dict[str, Any]]) -> None:
    """Two slices of one track lie apart, or one holds the other (to the clock's microseconds)."""
    above: list[float] = []
    for one in sorted(track, key=lambda e: (e["ts"], -e["dur"])):
        while above and above[-1] <= one["ts"] + 2:
            above.pop()
        end = one["ts"] + one["dur"]
        assert not above or end <= above[-1] + 2, f"{one} reaches over the slice that it began in"
        above.append(end)


def test_every_stage_is_a_slice_with_its_layers_inside(measured: tuple[Path, Done]) -> None:
    folder = measured[0]
    found = [e for e in trace(folder)["traceEvents"] if e["ph"] == "X"]
    stages = [e for e in found if e["cat"] == "stage"]
    done = events(folder, "stage_finished")
    assert sum(e["args"]["stages"] for e in stages) == len(done)
    (tuned,) = (e for e in stages if e["args"]["action"] == "finetune")
    inside = [
        e["name"]
        for e in found
        if e["pid"] == tuned["pid"] and tuned["ts"] <= e["ts"] and e["ts"] + e["dur"] <= tuned["ts"] + tuned["dur"] + 2
    ]
    assert {"trainer", "tokenizer", "io"} <= set(inside)
    layers = tuned["args"]["layers"]
    parts = sum(seconds for name, seconds in layers.items() if name not in ("wall", "cpu"))
    assert parts == pytest.approx(layers["wall"], rel=0.01, abs=0.01), "the layers of a stage add up to it"


def test_the_table_is_printed_and_kept(measured: tuple[Path, Done]) -> None:
    folder, done = measured
    kept = trace(folder)["otherData"]
    assert "finetune sft" in done.stdout
    assert "trainer" in done.stdout
    assert "ui.perfetto.dev" in done.stdout
    assert {row["name"] for row in kept["stages"]} >= {"finetune sft", "answer pocket", "grade pocket"}
    workers = [p for p in kept["processes"] if p["name"].startswith("worker ")]
    assert any("waiting" in p["layers"] for p in workers)
    assert any("tracking" in p["layers"] for p in kept["processes"] if p["name"] == "MLflow")
    assert not list((folder / "home" / "profiles").glob("*.parts")), "what the processes noted is put together"


def test_the_forecast_is_recorded_with_its_error(measured: tuple[Path, Done]) -> None:
    folder, done = measured
    for event in events(folder, "stage_finished"):
        said, error = event["forecast"], event["forecast_error"]
        was = event["timing"]["wall"] - event["timing"].get("import", 0.0) - event["timing"].get("open", 0.0)
        assert said["basis"] == "rule", "an empty home knows nothing"
        assert error["seconds"] == pytest.approx((said["seconds"] - was) / was, abs=1e-3)
        assert event["memory"] > 100 * 2**20
    assert "forecast" in done.stderr
    assert "half of the stages are off by at most" in done.stderr


def test_status_and_mlflow_know_the_error(measured: tuple[Path, Done], loopbench: Run) -> None:
    from mlflow import MlflowClient

    folder = measured[0]
    status = json.loads(loopbench("status", "tiny", "--json", LOOPBENCH_HOME=str(folder / "home")).stdout)
    seconds = status["forecast"]["seconds"]
    assert seconds["stages"] == len(events(folder, "stage_finished"))
    assert 0 <= seconds["median"] < 100
    client = MlflowClient(f"sqlite:///{folder / 'home' / 'mlflow.db'}")
    (run,) = (r for r in client.search_runs(["1"]) if r.info.run_name.startswith("grid-"))
    assert run.data.metrics["forecast/seconds_error"] == pytest.approx(seconds["median"])


def test_a_second_experiment_learns_from_the_first(measured: tuple[Path, Done], loopbench: Run) -> None:
    folder = measured[0]
    home = {"LOOPBENCH_HOME": str(folder / "home")}
    said = json.loads(loopbench("plan", "tiny.yaml", "--set", "train.epochs=2", "--json", **home).stdout)
    lines = {line["action"]: line for line in said["stages"] if not line["done"]}
    (first,) = (event for event in events(folder, "stage_finished") if event["action"] == "finetune")
    assert lines["finetune"]["basis"] == "history"
    assert lines["finetune"]["tokens"] == pytest.approx(2 * first["cost"]["train_tokens"], rel=0.01)
    assert lines["finetune"]["memory"] == first["memory"]
    assert "this home's own runs" in said["basis"]
