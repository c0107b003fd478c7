"""Brings MLflow to where the store is: one pass logs all that is done and was not logged before.

The layout: experiment = experiment name; parent run `grid-<plan key>`; one child per cell; nothing deeper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis.costs import failures
from harness.analysis.grid import Cell, Grid
from harness.clock import timed
from harness.store import journal
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.store.locks import lease
from harness.tracking.points import milliseconds, safe
from harness.tracking.summary import Summary
from harness.tracking.tracker import Identity, Run, Tracker, reached
from harness.tracking.units import Batch, Reader, Unit, cell_units, untuned_units
from harness.tracking.where import CREATION, artifacts


@dataclass(frozen=True)
class History:
    """What the journal says about a plan: when it first started (unix ms), and which stages failed last time."""

    started: int
    failed: frozenset[str]


def history(home: Home, experiment: str, plan_key: str) -> History:
    """Reads the journal of an experiment."""
    events = list(journal.read(home.journal_file(experiment)))
    starts = (e["time"] for e in events if e["event"] == "grid_started" and e["plan_key"] == plan_key)
    started = next(starts, None) or home.grid_file(experiment).stat().st_mtime
    return History(round(started * 1000), frozenset(failures(events)))


@dataclass
class Writer:
    """Writes one plan of one experiment to one MLflow."""

    home: Home
    grid: Grid
    uri: str
    parent: str | None = None
    """MLflow's id of the parent run, once it is there."""
    _tracker: Tracker | None = None
    _units: dict[str, list[Unit]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reader = Reader(Store(self.home))
        self._units = {cell.name: cell_units(self.grid, cell, self._reader) for cell in self.grid.cells}
        self._summary = Summary(self.home, self.grid, self._reader)

    @timed("tracking")
    def write(self, final: bool) -> bool:
        """Logs all that is done and not logged yet; True when nothing of the plan is left.

        Args:
            final: the run is over: cells that are not complete get their end, and the comparison is made.

        Raises:
            Unreachable: MLflow did not answer; what was logged before stays logged.
        """
        with reached(self.uri):
            past = history(self.home, self.grid.experiment, self.grid.plan_key)
            tracker = self._open()
            parent = self._parent(tracker, past)
            complete = [self._cell(tracker, parent, cell, past, final) for cell in self.grid.cells]
            everything = all(complete)
            if not final:
                tracker.finish(parent, "RUNNING", None)  # system metrics are sampled while it says so
            if final:
                self._summary.write(tracker, parent, everything)
                tracker.finish(parent, _status(everything, bool(past.failed)), self._summary.ended())
            return everything

    def _open(self) -> Tracker:
        if self._tracker is None:
            with lease(self.home.locks, CREATION, "the creation of the MLflow database", timeout=60):
                root = artifacts(self.home, self.uri)
                self._tracker = Tracker.open(self.uri, self.grid.experiment, self.grid.plan_key, root)
        return self._tracker

    def _parent(self, tracker: Tracker, past: History) -> Run:
        run = tracker.run(self._identity("grid", f"grid-{self.grid.plan_key[:12]}", past))
        self.parent = run.id
        if "config" not in run.logged:
            tracker.text(run, "config.yaml", self._summary.config_yaml())
            tracker.log(run, {"config": Batch()})
        self._log(tracker, run, untuned_units(self.grid, self._reader))
        return run

    def _cell(self, tracker: Tracker, parent: Run, cell: Cell, past: History, final: bool) -> bool:
        units = self._units[cell.name]
        if not any(self._ready(unit) for unit in units):
            return False
        run = tracker.run(self._identity(cell.name, cell.name, past, _params(self.grid, cell), parent.id))
        self._log(tracker, run, units)
        complete = all(unit.id in run.logged for unit in units)
        if complete or final:
            failed = any(key in past.failed for unit in units for _, key in unit.needs)
            tracker.finish(run, _status(complete, failed), self._ended(units))
        else:
            tracker.finish(run, "RUNNING", None)
        return complete

    def _identity(
        self, cell: str, name: str, past: History, params: Mapping[str, str] | None = None, parent: str | None = None
    ) -> Identity:
        return Identity(
            plan=self.grid.plan_key,
            cell=cell,
            name=name,
            started=past.started,
            tags=_tags(self.grid),
            params=params or {},
            parent=parent,
        )

    def _log(self, tracker: Tracker, run: Run, units: Sequence[Unit]) -> None:
        ready = [unit for unit in units if unit.id not in run.logged and self._ready(unit)]
        if ready:
            tracker.log(run, {unit.id: unit.build() for unit in ready})

    def _ready(self, unit: Unit) -> bool:
        return all(self._reader.done(ref) for ref in unit.needs)

    def _ended(self, units: Sequence[Unit]) -> int:
        done = [ref for unit in units for ref in unit.needs if self._reader.done(ref)]
        return max(milliseconds(self._reader.manifest(ref)) for ref in done)


def _tags(grid: Grid) -> dict[str, str]:
    """What started the run, and who judged: a stand-in's scores are labelled wherever they are shown."""
    source = {"mlflow.source.name": f"loopbench run {grid.experiment}", "mlflow.source.type": "LOCAL"}
    return source | {
        f"loopbench.judge.{safe(suite.name)}": suite.label for suite in grid.suites.values() if suite.label
    }


def _status(complete: bool, failed: bool) -> str:
    return "FINISHED" if complete else "FAILED" if failed else "KILLED"


def _params(grid: Grid, cell: Cell) -> dict[str, str]:
    """What differs between the cells of the grid, and only that; the rest is in `config.yaml`."""
    everyone = [_coordinates(c) for c in grid.cells]
    return {name: value for name, value in _coordinates(cell).items() if any(c.get(name) != value for c in everyone)}


def _coordinates(cell: Cell) -> dict[str, str]:
    place = {name: str(getattr(cell, name)) for name in ("recipe", "student", "seed", "data_seed")}
    return place | _variation(cell.recipe)


def _variation(recipe: str) -> dict[str, str]:
    """What `vary` set, from the name that it gave: `ifd-10[top.keep=5%, top.by=ifd]` has two."""
    inside = re.search(r"\[(.*)\]$", recipe)
    pairs = [part.partition("=") for part in inside[1].split(",")] if inside else []
    return {safe(name): value.strip() for name, _, value in pairs}
