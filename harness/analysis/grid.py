"""The grid file of an experiment, typed: what was planned, by stage key (see `harness.loop.grid`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.blocks.kinds import Metric
from harness.errors import CannotTell
from harness.loop.cells import Cell, Turn
from harness.store.artifacts import Store
from harness.store.home import Home

__all__ = ["UNTUNED", "Cell", "Grid", "SuiteFacts", "Turn", "read_grid"]

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
    scorer: int = 1
    """Version of the grading alone."""

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

    def identity(self, split: str, template: str | None = None) -> dict[str, Any]:
        """The fields that must be equal before two scores may be compared; `template` is the student's.

        `options` hold the decoding (temperature, length limit, shots) and what else defines the suite. The judge's
        written model name says something only where no revision tells what the model is.
        """
        judge = self.judge
        if judge is not None and judge.get("revision") is not None:
            judge = {name: value for name, value in judge.items() if name != "model"}
        return {
            "suite": self.block,
            "version": self.version,
            "scorer": self.scorer,
            "template": template,
            "options": dict(self.options),
            "items": self.items.get(split, ""),
            "judge": judge,
            "metrics": [m.name for m in self.metrics],
        }


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
    templates: Mapping[str, str | None] = field(default_factory=dict)
    """Student to the hash of the chat template that it is asked with; None where a server renders."""

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
        cells=tuple(Cell.from_json(cell) for cell in raw["cells"]),
        untuned={student: Turn.from_json(turn) for student, turn in raw["untuned"].items()},
        stages=raw["stages"],
        home=Home(home),
        templates=raw.get("templates") or {},
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
        scorer=raw.get("scorer", 1),
    )
