"""What belongs to the whole grid: its configuration, the comparison with the baseline, and one figure per suite."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.grid import Grid, SuiteFacts
from harness.loop.foretold import summed
from harness.records.hashing import sha256
from harness.records.jsonable import plain
from harness.store import journal
from harness.store.home import Home
from harness.tracking.deltas import comparison
from harness.tracking.points import Point, milliseconds, safe
from harness.tracking.tracker import Run, Tracker
from harness.tracking.units import Batch, Reader
from harness.tracking.where import masked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = Mapping[str, Mapping[int, list[float]]]
"""Recipe to iteration to the scores of its cells."""


@dataclass
class Summary:
    """The parent run's own content. `write` repeats only when other cells are done than the last time."""

    home: Home
    grid: Grid
    reader: Reader

    def config_yaml(self) -> str:
        """The resolved configuration as YAML, without passwords in URLs."""
        from ruamel.yaml import YAML

        stream = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.dump(plain(self.grid.resolved, masked), stream)
        return stream.getvalue()

    def ended(self) -> int | None:
        """When the last evaluation was graded (unix ms); None where there is none yet."""
        return max((milliseconds(self.reader.manifest(("grades", key))) for key in self._graded()), default=None)

    def write(self, tracker: Tracker, parent: Run, complete: bool) -> None:
        """Logs the comparison and the figures of what is graded now.

        Differences become points only when the plan is `complete`: points cannot be taken back, and those of a part of
        the cells would stand at the same step as the final ones. The document and the note are replaced.
        """
        graded = self._graded()
        unit = f"summary-{sha256([complete, *graded])[:10]}"
        if not graded or unit in parent.logged:
            return
        with tempfile.TemporaryDirectory() as folder:
            for suite in self.grid.suites.values():
                path = Path(folder) / f"{safe(suite.name).replace('/', '-')}.png"
                if curves := self._curves(suite):
                    _figure(suite, curves).savefig(path, metadata={"Software": None})
                    tracker.file(parent, "figures", path)
        found = comparison(self.grid)
        tracker.text(parent, "comparison.json", json.dumps(found.document, ensure_ascii=False, indent=1))
        points = found.points(self.ended() or 0) if complete else []
        points += self._forecast() if complete else []
        tracker.log(parent, {unit: Batch(points=points, tags={"mlflow.note.content": found.note()})})

    def _forecast(self) -> list[Point]:
        """How far off the forecasts of the grid's stages were: medians of absolute errors, as shares."""
        events = [
            e for e in journal.read(self.home.journal_file(self.grid.experiment)) if e.get("key") in self.grid.stages
        ]
        time = self.ended() or 0
        found = summed(events).items()
        return [Point(f"forecast/{name}_error", e.median, time, 0) for name, e in found if e.median is not None]

    def _graded(self) -> list[str]:
        turns = [turn for cell in self.grid.cells for turn in cell.turns]
        keys = {splits["test"] for turn in turns for splits in turn.grades.values() if "test" in splits}
        return sorted(key for key in keys if self.reader.done(("grades", key)))

    def _curves(self, suite: SuiteFacts) -> Curves:
        curves: dict[str, dict[int, list[float]]] = {}
        for recipe, iteration, key in self._evaluations(suite.name):
            values = [row["values"].get(suite.headline) for row in self.reader.grades(key)]
            there = [value for value in values if value is not None]
            if there:
                curves.setdefault(recipe, {}).setdefault(iteration, []).append(sum(there) / len(there))
        return curves

    def _evaluations(self, suite: str) -> Iterator[tuple[str, int, str]]:
        for cell in self.grid.cells:
            start = [self.grid.untuned[cell.student]] if cell.student in self.grid.untuned else []
            for turn in (*start, *cell.turns):
                key = turn.grades.get(suite, {}).get("test")
                if key is not None and self.reader.done(("grades", key)):
                    yield cell.recipe, turn.iteration, key


def _figure(suite: SuiteFacts, curves: Curves) -> Figure:
    """Score by iteration: a line through each recipe's mean, a dot per cell."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 3.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for recipe, scores in sorted(curves.items()):
        steps = sorted(scores)
        means = [sum(scores[step]) / len(scores[step]) for step in steps]
        (line,) = axes.plot(steps, means, label=recipe)
        dots = [(step, value) for step in steps for value in scores[step]]
        axes.plot(*zip(*dots, strict=True), ".", color=line.get_color(), alpha=0.5)
    label = f", {suite.label}" if suite.label else ""
    axes.set(title=f"{suite.name} v{suite.version} test{label}", xlabel="iteration", ylabel=suite.headline)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
