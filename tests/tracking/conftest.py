"""A small grid that was planned and (in part) run, written by the store's own code, without any model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Answer, Grade, Metric
from harness.records import evaltables
from harness.records.example import Example
from harness.records.table import write as write_rows
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.store.journal import Journal

EXPERIMENT = "trial"
ITEMS = 12
RECIPES = ("all-data", "top[top.keep=5%]")
SEEDS = (0, 1, 2)
ITERATIONS = (1, 2)
ACTIONS = {"data": "source", "rows": "select", "model": "finetune", "answers": "answer", "grades": "grade"}
BETTER = {"all-data": 4, "top[top.keep=5%]": 7}
"""Right answers of seed 0 in iteration 1; each seed and iteration adds one."""


@dataclass
class World:
    """A planned grid; `finish` does stages, as a run would."""

    home: Home
    plan_key: str = "plan" + "0" * 60
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock: float = 1_700_000_000.0

    def __post_init__(self) -> None:
        self.store = Store(self.home)
        self.document = self._plan()

    # --- the plan ---------------------------------------------------------------------------------------------------
    def _plan(self) -> dict[str, Any]:
        metrics = [asdict(Metric(name="accuracy", binary=True)), asdict(Metric(name="length", unit="tokens"))]
        suite = {
            "version": 1,
            "items": {"test": "5e7" * 20, "dev": "de7" * 20},
            "label": "ORACLE judge (programmatic)",
            "stand_in": True,
            "metrics": metrics,
            "headline": "accuracy",
            "block": "pocket",
            "options": {},
            "judge": None,
            "real": False,
        }
        self._stage("pool", "data", "data toys")
        return {
            "experiment": EXPERIMENT,
            "plan_key": self.plan_key,
            "resolved": {"experiment": EXPERIMENT, "models": {"judge": {"url": "http://me:secret@judge:1/v1"}}},
            "suites": {"pocket": suite},
            "baseline": "all-data",
            "gate": None,
            "cells": [self._cell(recipe, seed) for recipe in RECIPES for seed in SEEDS],
            "untuned": {"student": self._turn("untuned", 0, {}, [])},
            "stages": self.stages,
        }

    def _stage(self, key: str, kind: str, label: str, inputs: tuple[str, ...] = ()) -> str:
        self.stages[key] = {
            "kind": kind,
            "action": ACTIONS[kind],
            "label": label,
            "block": kind,
            "inputs": list(inputs),
        }
        return key

    def _cell(self, recipe: str, seed: int) -> dict[str, Any]:
        name = f"{recipe}/student/s{seed}"
        turns = []
        for i in ITERATIONS:
            kept = self._stage(f"{recipe}-top-{i}", "rows", f"{recipe} i{i} top", ("pool",))
            model = self._stage(f"{name}-sft-{i}", "model", f"{name} i{i} sft", (kept,))
            turns.append(self._turn(name, i, {"top": kept, "sft": model}, [model]))
        return {"name": name, "recipe": recipe, "student": "student", "seed": seed, "data_seed": 0, "iterations": turns}

    def _turn(self, name: str, iteration: int, steps: dict[str, str], train: list[str]) -> dict[str, Any]:
        splits = ["dev", "test"] if iteration == 1 else ["test"]
        answers = {s: self._stage(f"{name}-a-{iteration}-{s}", "answers", "answer") for s in splits}
        grades = {s: self._stage(f"{name}-g-{iteration}-{s}", "grades", "grade") for s in splits}
        return {
            "iteration": iteration,
            "stages": list(steps.values()),
            "train": train,
            "model": train[-1] if train else None,
            "steps": steps,
            "answers": {"pocket": answers},
            "grades": {"pocket": grades},
        }

    def rename(self, plan_key: str) -> None:
        """Makes this the plan of another key."""
        self.plan_key = self.document["plan_key"] = plan_key

    # --- the run ----------------------------------------------------------------------------------------------------
    def journal(self, event: str, **data: Any) -> None:
        self.clock += 1
        with Journal(self.home.journal_file(EXPERIMENT), clock=lambda: self.clock) as journal:
            journal.write(event, **data)

    def begin(self) -> World:
        path = self.home.grid_file(EXPERIMENT)
        for file in (path, path.parent / "grids" / f"{self.plan_key}.json"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(self.document))
        self.journal("grid_started", plan_key=self.plan_key)
        return self

    def finish(self, *keys: str) -> World:
        """Does some stages (all that are planned, where none is named)."""
        for key in keys or tuple(self.stages):
            kind = self.stages[key]["kind"]
            if not self.store.done(kind, key):
                keep, manifest = getattr(self, f"_{kind}")(key, self.store.work(kind, key))
                self.store.commit(kind, key, keep, {"timing": {"wall": 0.5}, "dropped": {}} | manifest)
                self.journal("stage_finished", key=key)
        return self

    def fail(self, key: str) -> None:
        self.journal("stage_failed", key=key, why="it broke")

    def cell_keys(self, name: str) -> list[str]:
        """The stages of one cell."""
        (cell,) = (c for c in self.document["cells"] if c["name"] == name)
        keys = [key for turn in cell["iterations"] for key in turn["stages"]]
        for turn in cell["iterations"]:
            keys += [*turn["answers"]["pocket"].values(), *turn["grades"]["pocket"].values()]
        return keys

    def _data(self, key: str, folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
        rows = [Example(id=f"r{k}", messages=({"role": "user", "content": f"{k}?"},)) for k in range(20)]
        return ("rows.parquet",), {"rows": write_rows(folder / "rows.parquet", rows)}

    def _rows(self, key: str, folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
        rows = [Example(id=f"{key}{k}", messages=({"role": "user", "content": f"{k}?"},)) for k in range(5)]
        write_rows(folder / "rows.parquet", rows)
        return ("rows.parquet",), {
            "rows": 5,
            "dropped": {"rank": 12, "IFD>=1": 3},
            "cost": {"prompt_tokens": 100, "generated_tokens": 40},
        }

    def _model(self, key: str, folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_text(key)
        history = [{"step": s, "loss": 2.0 / s, "epoch": s / 2, "learning_rate": 1e-3} for s in (1, 2, 3, 4)]
        report = {"steps": 4, "rows": 5, "history": history}
        return ("model",), {"rows": 5, "report": report, "cost": {"train_tokens": 300, "loss_tokens": 200}}

    def _answers(self, key: str, folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
        answers = [Answer(item=f"i{k}", outputs=(f"answer {k}", "second é")) for k in range(ITEMS)]
        evaltables.write_answers(folder / "answers.parquet", answers)
        return ("answers.parquet",), {"rows": ITEMS, "cost": {"generated_tokens": 99}}

    def _grades(self, key: str, folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
        grades = [self._grade(k, _right(key)) for k in range(ITEMS)]
        evaltables.write_grades(folder / "grades.parquet", grades)
        return ("grades.parquet",), {"rows": ITEMS, "report": {"spread": 0.25}, "cost": {"judged_tokens": 7}}

    def _grade(self, k: int, right: int) -> Grade:
        lost = k == ITEMS - 1
        return Grade(
            id=f"i{k}",
            item=f"i{k}",
            cluster=f"i{k}",
            category="math" if k % 2 else "writing",
            values={"accuracy": None if lost else float(k < right), "length": None if lost else 10.0 + k},
            missing="no verdict" if lost else None,
            judge="oracle",
            judge_text="because",
        )


def _right(key: str) -> int:
    if key.startswith("untuned"):
        return 1
    name, _, iteration = key.split("-g-", maxsplit=1)[0], "", int(key.split("-g-")[1].split("-", maxsplit=1)[0])
    recipe, _, seed = name.split("/")
    return BETTER[recipe] + int(seed[1:]) % 2 + iteration - 1


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: creating one takes MLflow seconds, so the tests copy this."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def new_world(database: Path) -> Callable[[Path], World]:
    def make(folder: Path) -> World:
        made = World(Home(folder / "home").prepare())
        shutil.copy(database, made.home.path / "mlflow.db")
        return made

    return make


@pytest.fixture
def world(tmp_path: Path, new_world: Callable[[Path], World]) -> World:
    return new_world(tmp_path)


Histories = dict[str, dict[str, list[tuple[int, int, float]]]]


@dataclass
class Seen:
    """What MLflow holds of an experiment: runs by name, every point of every metric, and the rest of a run."""

    client: Any
    runs: dict[str, Any]

    def history(self) -> Histories:
        """Run to metric to all its points as (step, time, value), in a fixed order."""
        return {
            name: {
                key: sorted(
                    (m.step, m.timestamp, m.value) for m in self.client.get_metric_history(run.info.run_id, key)
                )
                for key in sorted(run.data.metrics)
            }
            for name, run in sorted(self.runs.items())
        }

    def artifacts(self, name: str, folder: str | None = None) -> list[str]:
        """Paths of all files among a run's artifacts."""
        found: list[str] = []
        for entry in self.client.list_artifacts(self.runs[name].info.run_id, folder):
            found += self.artifacts(name, entry.path) if entry.is_dir else [entry.path]
        return sorted(found)

    def text(self, name: str, path: str) -> str:
        return Path(self.client.download_artifacts(self.runs[name].info.run_id, path)).read_text()


@pytest.fixture(scope="session")
def look() -> Callable[..., Seen]:
    """Reads MLflow's database (or a server) the way a user would."""

    def read(world: World, uri: str | None = None, plan: str | None = None) -> Seen:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri or f"sqlite:///{world.home.path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name(EXPERIMENT)
        wanted = f"tags.`loopbench.plan` = '{plan}'" if plan else ""
        runs = client.search_runs([experiment.experiment_id], wanted)
        names = [run.info.run_name for run in runs]
        assert len(names) == len(set(names)), f"a run exists twice: {sorted(names)}"
        return Seen(client, {run.info.run_name: run for run in runs})

    return read
