"""The baseline file of a gate: the graded items of an experiment with all that gives them their meaning.

It holds every item's value per seed, not means, so that a later experiment is compared item by item and seed by seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.arms import Arm, aligned, arm_of
from harness.analysis.costs import arm_cost, engines
from harness.analysis.grid import Grid, SuiteFacts
from harness.analysis.sentinels import readings
from harness.errors import CannotTell, UserError
from harness.records.sentinels import Reading
from harness.stats import score
from harness.store.atomic import write_bytes

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "loopbench baseline"
FORMAT_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm on one suite: what a gate compares. `metrics` maps a metric to its arm."""

    recipe: str
    student: str
    identity: Mapping[str, Any]
    label: str
    engines: frozenset[tuple[str, str]]
    metrics: Mapping[str, Arm]
    unfinished: int = 0
    sentinels: tuple[Reading, ...] = ()
    """What the judge said of the frozen answers when these grades were made."""


Sides = Mapping[str, Mapping[str, Side]]
"""Arm name (recipe, or recipe/student where there are several students) to suite to side."""


def arm_name(grid: Grid, recipe: str, student: str) -> str:
    """How an arm is called in a gate."""
    return recipe if len(grid.students) == 1 else f"{recipe}/{student}"


def sides_of(grid: Grid, frame: pd.DataFrame, split: str) -> Sides:
    """The last iteration of every arm of an experiment; an arm without grades has no suites."""
    result: dict[str, dict[str, Side]] = {}
    for recipe in grid.recipes:
        for student in grid.students:
            last = max(cell.last.iteration for cell in grid.cells_of(recipe, student))
            chosen = (frame["recipe"] == recipe) & (frame["student"] == student) & (frame["iteration"] == last)
            suites = {
                name: _side(grid, facts, part, recipe, student, split)
                for name, facts in grid.suites.items()
                if not (part := frame[chosen & (frame["suite"] == name)]).empty
            }
            result[arm_name(grid, recipe, student)] = suites
    return result


def _side(grid: Grid, facts: SuiteFacts, frame: pd.DataFrame, recipe: str, student: str, split: str) -> Side:
    return Side(
        recipe=recipe,
        student=student,
        identity=facts.identity(split, grid.templates.get(student)),
        label=facts.label,
        engines=engines(grid, recipe, student),
        metrics={str(name): arm_of(part, recipe) for name, part in frame.groupby("metric", sort=False)},
        unfinished=arm_cost(grid, recipe, student).unfinished,
        sentinels=readings(grid, facts.name, split, grid.cells_of(recipe, student)),
    )


def save(path: Path, grid: Grid, sides: Sides, split: str) -> None:
    """Writes a baseline file, whole or not at all.

    Raises:
        CannotTell: an arm has no grades or unfinished stages: a baseline of half an experiment would mislead.
        UserError: the file cannot be written.
    """
    for name, suites in sides.items():
        unfinished = max((side.unfinished for side in suites.values()), default=0)
        if not suites or unfinished:
            raise CannotTell(
                f"{grid.experiment}: {name} is not finished, so no baseline was written. "
                f"`loopbench run {grid.experiment}` finishes it"
            )
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "experiment": grid.experiment,
        "plan_key": grid.plan_key,
        "split": split,
        "arms": {
            name: {suite: _plain(side, grid.suites[suite]) for suite, side in suites.items()}
            for name, suites in sides.items()
        },
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    except OSError as error:
        raise UserError(f"{path}: the baseline could not be written ({error.strerror})") from error


def _plain(side: Side, facts: SuiteFacts) -> dict[str, Any]:
    first = next(iter(side.metrics.values()))
    arms = {name: aligned(arm, first.ids, first.recipe) for name, arm in side.metrics.items()}
    return {
        "recipe": side.recipe,
        "student": side.student,
        "identity": dict(side.identity),
        "label": side.label,
        "engines": sorted(list(pair) for pair in side.engines),
        "runs": [list(run) for run in first.runs],
        "sentinels": [reading.to_json() for reading in side.sentinels],
        "scores": {name: _score(arm, facts.metric(name).bounds) for name, arm in arms.items()},
        "ids": list(first.ids),
        "clusters": list(first.clusters),
        "values": {name: _rows(arm) for name, arm in arms.items()},
    }


def _score(arm: Arm, bounds: tuple[float, float] | None) -> dict[str, Any]:
    """For people who read the file: the gate itself compares items."""
    try:
        found = score(arm.all(), clusters=arm.clusters, bounds=bounds)
    except CannotTell as error:
        return {"value": None, "n": len(arm.ids), "reason": str(error)}
    return {name: getattr(found, name) for name in ("value", "low", "high", "n", "missing", "runs")}


def _rows(arm: Arm) -> list[list[float | None]]:
    """Values per run and item, the mean over judge repeats; None is missing."""
    import numpy as np

    present = ~np.isnan(arm.values)
    sums, counts = np.where(present, arm.values, 0.0).sum(axis=-1), present.sum(axis=-1)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return [[None if v != v else v for v in row] for row in means.tolist()]


def load(path: Path) -> tuple[str, Sides]:
    """The split and the sides of a baseline file.

    Raises:
        UserError: it is missing, no baseline file, damaged, or of another format.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: this baseline cannot be read ({error.strerror}). "
            f"`loopbench gate EXPERIMENT --write {path}` makes one"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: this is no baseline file ({error})") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(f"{path}: this is no baseline file; `loopbench gate EXPERIMENT --write FILE` makes one")
    if raw.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: its format is {raw.get('format_version')}, known here is {FORMAT_VERSION}. "
            f"`loopbench gate EXPERIMENT --write {path}` writes it anew"
        )
    try:
        arms = {name: {s: _side_from(one) for s, one in suites.items()} for name, suites in raw["arms"].items()}
        return str(raw["split"]), arms
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: this baseline file is damaged ({type(error).__name__}: {error}). "
            f"`loopbench gate EXPERIMENT --write {path}` writes it anew"
        ) from error


def _side_from(raw: Mapping[str, Any]) -> Side:
    import numpy as np

    runs = tuple((int(data), int(seed)) for data, seed in raw["runs"])
    ids, clusters = tuple(raw["ids"]), tuple(raw["clusters"])
    arms = {
        name: Arm(
            recipe=raw["recipe"],
            runs=runs,
            ids=ids,
            clusters=clusters,
            values=np.array(rows, dtype=np.float64)[..., None],
        )
        for name, rows in raw["values"].items()
    }
    return Side(
        recipe=raw["recipe"],
        student=raw["student"],
        identity=raw["identity"],
        label=raw["label"],
        engines=frozenset((str(engine), str(dtype)) for engine, dtype in raw["engines"]),
        metrics=arms,
        sentinels=tuple(Reading.from_json(one) for one in raw.get("sentinels") or ()),
    )
