"""The grid file of an experiment, typed: what was planned, by stage key (see `harness.loop.grid`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.blocks.kinds import Metric
from harness.errors import CannotTell
from harness.records.hashing import sha256
from harness.store.artifacts import Store
from harness.store.home import Home

UNTUNED = "untuned"


@dataclass(frozen=True, kw_only=True)
class SuiteFacts:
    """What gives a suite's scores their meaning. `items` maps a split to the hash of its items."""

    name: str
    block: str
    version: int
    options: Mapping[str, Any]
    items: Mapping[str, str]
    judge: Mapping[str, Any] | None
    label: str
    stand_in: bool
    real: bool
    metrics: tuple[Metric, ...]
    headline: str
    notes: tuple[str, ...] = ()
    """Sentences that must stand beside the scores."""

    def metric(self, name: str | None = None) -> Metric:
        """A metric by name; None is the headline.

        Raises:
            KeyError: the suite has no such metric.
        """
        wanted = name or self.headline
        for metric in self.metrics:
            if metric.name == wanted:
                return metric
        raise KeyError(f"suite {self.name} has no metric {wanted!r}; its metrics: {self.metric_names()}")

    def metric_names(self) -> str:
        """The metrics' names, for messages."""
        return ", ".join(m.name for m in self.metrics)

    def identity(self, split: str) -> dict[str, Any]:
        """The fields that must be equal before two scores may be compared.

        The judge's written model name says something only where no revision tells what the model is.
        """
        judge = self.judge
        if judge is not None and judge.get("revision") is not None:
            judge = {name: value for name, value in judge.items() if name != "model"}
        return {
            "suite": self.block,
            "version": self.version,
            "options": sha256(self.options),
            "items": self.items.get(split, ""),
            "judge": judge,
            "metrics": [m.name for m in self.metrics],
        }


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One iteration of a cell: its stages, and its grades by suite and split."""

    iteration: int
    stages: tuple[str, ...]
    train: tuple[str, ...]
    answers: Mapping[str, Mapping[str, str]]
    grades: Mapping[str, Mapping[str, str]]
    steps: Mapping[str, str] = field(default_factory=dict)
    """Step name to stage key, in the order of the recipe."""

    def stage_keys(self) -> Iterator[str]:
        """Every stage that this iteration needs, each once."""
        evaluation = (
            key for kind in (self.answers, self.grades) for splits in kind.values() for key in splits.values()
        )
        yield from dict.fromkeys((*self.stages, *self.train, *evaluation))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the grid."""

    recipe: str
    student: str
    seed: int
    data_seed: int
    turns: tuple[Turn, ...]
    name: str = ""
    """Unique in the grid: recipe, student and seeds."""

    @property
    def last(self) -> Turn:
        """The iteration that claims are made about."""
        return self.turns[-1]

    def stage_keys(self) -> Iterator[str]:
        """Every stage of the cell, each once."""
        yield from dict.fromkeys(key for turn in self.turns for key in turn.stage_keys())


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A planned experiment and the store that its artifacts are in."""

    experiment: str
    plan_key: str
    resolved: Mapping[str, Any]
    suites: Mapping[str, SuiteFacts]
    baseline: str | None
    gate: Mapping[str, Any] | None
    cells: tuple[Cell, ...]
    untuned: Mapping[str, Turn]
    stages: Mapping[str, Mapping[str, Any]]
    home: Home

    @cached_property
    def store(self) -> Store:
        """The artifacts."""
        return Store(self.home)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Recipes in the order of the experiment."""
        return tuple(dict.fromkeys(cell.recipe for cell in self.cells))

    @property
    def students(self) -> tuple[str, ...]:
        """Roles of the students."""
        return tuple(dict.fromkeys(cell.student for cell in self.cells))

    def cells_of(self, recipe: str, student: str) -> tuple[Cell, ...]:
        """The cells of one arm."""
        return tuple(cell for cell in self.cells if (cell.recipe, cell.student) == (recipe, student))

    @cached_property
    def _manifests(self) -> dict[str, Mapping[str, Any] | None]:
        return {}

    def manifest(self, key: str) -> Mapping[str, Any] | None:
        """The manifest of a stage, or None where it is not finished; read once."""
        if key not in self._manifests:
            kind = self.stages[key]["kind"]
            self._manifests[key] = self.store.manifest(kind, key) if self.store.done(kind, key) else None
        return self._manifests[key]


def read_grid(home: Path, experiment: str, plan_key: str | None = None) -> Grid:
    """The grid of an experiment's last run, or of the plan with a key.

    Raises:
        CannotTell: it was never run in this home.
    """
    path = Home(home).grid_file(experiment)
    if plan_key is not None:
        path = path.parent / "grids" / f"{plan_key}.json"
    if not path.exists():
        raise CannotTell(
            f"{experiment!r} was never run in {home}: nothing was measured. `loopbench run {experiment}` starts it"
        )
    raw = json.loads(path.read_text())
    return Grid(
        experiment=raw["experiment"],
        plan_key=raw["plan_key"],
        resolved=raw["resolved"],
        suites={name: _suite(name, facts) for name, facts in raw["suites"].items()},
        baseline=raw["baseline"],
        gate=raw["gate"],
        cells=tuple(_cell(cell) for cell in raw["cells"]),
        untuned={student: _turn(turn) for student, turn in raw["untuned"].items()},
        stages=raw["stages"],
        home=Home(home),
    )


def _suite(name: str, raw: Mapping[str, Any]) -> SuiteFacts:
    return SuiteFacts(
        name=name,
        block=raw["block"],
        version=raw["version"],
        options=raw["options"],
        items=raw["items"],
        judge=raw["judge"],
        label=raw["label"],
        stand_in=raw["stand_in"],
        real=raw["real"],
        metrics=tuple(Metric(**metric) for metric in raw["metrics"]),
        headline=raw["headline"],
        notes=tuple(raw.get("notes") or ()),
    )


def _cell(raw: Mapping[str, Any]) -> Cell:
    place = {name: raw[name] for name in ("recipe", "student", "seed", "data_seed")}
    return Cell(**place, name=raw.get("name", ""), turns=tuple(_turn(turn) for turn in raw["iterations"]))


def _turn(raw: Mapping[str, Any]) -> Turn:
    return Turn(
        iteration=raw["iteration"],
        stages=tuple(raw["stages"]),
        train=tuple(raw["train"]),
        answers=raw["answers"],
        grades=raw["grades"],
        steps=raw.get("steps", {}),
    )
