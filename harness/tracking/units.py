"""What of a cell can be logged as soon as which artifacts are done.

A unit is the smallest thing that is logged whole: one step's rows, one training's curves, one evaluation, the costs of
one iteration. Its id depends on the plan alone, so a run's list of logged ids is a high-water mark that survives kills,
replays and stages that finish out of order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.analysis.grid import Cell, Grid, Turn
from harness.records import evaltables
from harness.records.hashing import sha256
from harness.store.artifacts import MANIFEST, Store
from harness.tracking import points, watch
from harness.tracking.points import Point

Ref = tuple[str, str]
"""(kind, key) of an artifact."""


@dataclass(frozen=True, kw_only=True)
class DatasetInput:
    """Rows that entered a run, with the digest of their content; `context` is what they were used for."""

    name: str
    digest: str
    source: str
    context: str
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A per-item table for the artifact `path`."""

    path: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one unit adds to a run."""

    points: Sequence[Point] = ()
    inputs: Sequence[DatasetInput] = ()
    tables: Sequence[Table] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """`needs` are the artifacts that must be done before `build` may be called."""

    id: str
    needs: tuple[Ref, ...]
    build: Callable[[], Batch]


@dataclass
class Reader:
    """Reads finished artifacts. Manifests never change once they are there, so each is read once."""

    store: Store
    _manifests: dict[Ref, dict[str, Any]] = field(default_factory=dict)

    def done(self, ref: Ref) -> bool:
        """Whether an artifact is finished."""
        if ref not in self._manifests:
            path = self.store.home.store / ref[0] / ref[1] / MANIFEST
            try:
                self._manifests[ref] = json.loads(path.read_text())
            except (OSError, ValueError):  # not there yet, or damaged: the run's own reader deals with that
                return False
        return True

    def manifest(self, ref: Ref) -> dict[str, Any]:
        """The manifest of an artifact that is done."""
        if not self.done(ref):
            raise KeyError(ref)
        return self._manifests[ref]

    def grades(self, key: str) -> list[dict[str, Any]]:
        """The rows of a grades artifact."""
        return evaltables.read_grades(self.store.path("grades", key) / "grades.parquet")

    def answers(self, key: str) -> list[dict[str, Any]]:
        """The rows of an answers artifact."""
        return evaltables.read_answers(self.store.path("answers", key) / "answers.parquet")


def cell_units(grid: Grid, cell: Cell, reader: Reader) -> list[Unit]:
    """All units of a cell: iteration 0 (the untuned student), then each iteration's rows, curves, scores and costs."""
    units: list[Unit] = []
    if cell.student in grid.untuned:
        units += _scores(grid, grid.untuned[cell.student], reader, tables=False)
    for turn in cell.turns:
        units += _steps(grid, cell, turn, reader)
        units += _leaks(grid, turn, reader)
        units += _scores(grid, turn, reader)
        units += _costs(grid, turn, reader)
    return units


def untuned_units(grid: Grid, reader: Reader) -> list[Unit]:
    """The per-item tables of iteration 0: once per student, on the parent run, since all its cells share them."""
    units = []
    for student, turn in grid.untuned.items():
        for unit in _scores(grid, turn, reader, folder=f"items/untuned/{points.safe(student)}"):
            tables_only = partial(_only_tables, unit.build)
            units.append(Unit(id=_id("untuned", student, unit.id), needs=unit.needs, build=tables_only))
    return units


def _only_tables(build: Callable[[], Batch]) -> Batch:
    return Batch(tables=build().tables)


def _id(*parts: Any) -> str:
    return sha256(list(parts))[:10]


def _steps(grid: Grid, cell: Cell, turn: Turn, reader: Reader) -> Iterator[Unit]:
    for name, key in turn.steps.items():
        stage = grid.stages[key]
        ref = (stage["kind"], key)
        sources = tuple((grid.stages[k]["kind"], k) for k in stage["inputs"])
        yield Unit(
            id=_id("rows", turn.iteration, name, key),
            needs=(ref, *sources),
            build=partial(_rows, grid, reader, name, turn.iteration, ref, sources),
        )
        if key in turn.train:
            earlier = tuple(
                ("model", t.steps[name]) for t in cell.turns if t.iteration < turn.iteration and name in t.steps
            )
            yield Unit(
                id=_id("curves", turn.iteration, name, key),
                needs=(ref, *earlier),
                build=partial(_curves, reader, name, ref, earlier),
            )


def _leaks(grid: Grid, turn: Turn, reader: Reader) -> Iterator[Unit]:
    """What the checks of an iteration's training rows found; under `leaks: drop` also what was left out."""
    for key in turn.stages:
        ref = (str(grid.stages[key]["kind"]), key)
        if grid.stages[key]["action"] == "leaks":
            yield Unit(id=_id("leaks", turn.iteration, key), needs=(ref,), build=partial(_found, reader, turn, ref))
        elif grid.stages[key]["action"] == "clean":
            build = partial(_rows, grid, reader, "clean", turn.iteration, ref, ())
            yield Unit(id=_id("clean", turn.iteration, key), needs=(ref,), build=build)


def _found(reader: Reader, turn: Turn, ref: Ref) -> Batch:
    return Batch(points=watch.leaks(turn.iteration, reader.manifest(ref)))


def _rows(grid: Grid, reader: Reader, name: str, iteration: int, ref: Ref, sources: Sequence[Ref]) -> Batch:
    trained = ref[0] == "model"
    context = "training" if trained else "pool"
    inputs = [_dataset(grid, reader, s, context) for s in sources if trained or s[0] == "data"]
    return Batch(points=points.rows(name, iteration, reader.manifest(ref)), inputs=inputs)


def _dataset(grid: Grid, reader: Reader, ref: Ref, context: str) -> DatasetInput:
    kind, key = ref
    manifest = reader.manifest(ref)
    digest = manifest["files"].get("rows.parquet") or sha256(manifest["files"])
    name = str(grid.stages[key]["label"]).removeprefix("data ")
    return DatasetInput(name=name, digest=digest, source=f"{kind}/{key}", context=context, rows=manifest.get("rows"))


def _curves(reader: Reader, name: str, ref: Ref, earlier: Sequence[Ref]) -> Batch:
    """Optimizer steps go on counting from iteration to iteration, so that one chart shows the whole loop."""
    after = sum(int(reader.manifest(r)["report"]["steps"]) for r in earlier)
    return Batch(points=points.curves(name, after, reader.manifest(ref)))


def _scores(grid: Grid, turn: Turn, reader: Reader, *, tables: bool = True, folder: str = "items") -> Iterator[Unit]:
    for suite, splits in turn.grades.items():
        for split, key in splits.items():
            answers = turn.answers.get(suite, {}).get(split)
            needs: tuple[Ref, ...] = (("grades", key), *([("answers", answers)] if answers else []))
            path = points.safe(f"{folder}/{split}/{suite}/iteration-{turn.iteration}") + ".json" if tables else None
            build = partial(_graded, grid, reader, suite, split, turn.iteration, key, answers, path)
            yield Unit(id=_id("scores", turn.iteration, suite, split, key), needs=needs, build=build)


def _graded(
    grid: Grid,
    reader: Reader,
    suite: str,
    split: str,
    iteration: int,
    key: str,
    answers: str | None,
    path: str | None,
) -> Batch:
    info, grades = grid.suites[suite], reader.grades(key)
    inputs = []
    if split in info.items:
        inputs.append(
            DatasetInput(
                name=f"{suite} {split}",
                digest=info.items[split],
                source=f"suite {suite} version {info.version}",
                context="evaluation",
                rows=len(grades),
            )
        )
    manifest = reader.manifest(("grades", key))
    return Batch(
        points=[
            *points.scores(info, split, iteration, manifest, grades),
            *watch.sentinels(suite, split, iteration, manifest),
        ],
        inputs=inputs,
        tables=[_table(path, grades, reader.answers(answers) if answers else ())] if path else (),
    )


def _table(path: str, grades: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> Table:
    texts = {row["item"]: "\n\n".join(row["outputs"]) for row in answers}
    metrics = tuple(dict.fromkeys(name for row in grades for name in row["values"]))
    about = ("id", "item", "category")
    judged = ("missing", "judge", "judge_text")
    columns = (*about, *metrics, *judged, "answer")
    rows = [
        [*(g[c] for c in about), *(g["values"].get(m) for m in metrics), *(g[c] for c in judged), texts.get(g["item"])]
        for g in grades
    ]
    return Table(path=path, columns=columns, rows=rows)


def _costs(grid: Grid, turn: Turn, reader: Reader) -> Iterator[Unit]:
    made = tuple((grid.stages[key]["kind"], key) for key in turn.stages)
    measured = tuple(
        (kind, key)
        for kind, suites in (("answers", turn.answers), ("grades", turn.grades))
        for splits in suites.values()
        for key in splits.values()
    )
    for prefix, refs in (("cost", made), ("cost/evaluation", measured)):
        if refs:
            build = partial(_cost, reader, prefix, turn.iteration, refs)
            yield Unit(id=_id(prefix, turn.iteration, sorted(refs)), needs=refs, build=build)


def _cost(reader: Reader, prefix: str, iteration: int, refs: Sequence[Ref]) -> Batch:
    return Batch(points=points.costs(prefix, iteration, [reader.manifest(ref) for ref in dict.fromkeys(refs)]))
