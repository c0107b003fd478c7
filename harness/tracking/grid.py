"""The grid file, typed: what a run planned, in the form that tracking reads.

`runs/<experiment>/grid.json` names every cell, its iterations and the stage keys behind them; the store holds what the
stages gave. Together they are enough to write, or to write again, everything that MLflow shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError

KeysBySplit = Mapping[str, Mapping[str, str]]
"""Suite to split to stage key."""


@dataclass(frozen=True, kw_only=True)
class StageInfo:
    """One stage of the plan. `kind` is its folder in the store; `inputs` are the keys of the rows that it read."""

    key: str
    kind: str
    label: str = ""
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TurnInfo:
    """One iteration of a cell. `steps`: (step name, stage key) in the order of the recipe; `train`: its finetunes."""

    iteration: int
    steps: tuple[tuple[str, str], ...] = ()
    train: frozenset[str] = frozenset()
    answers: KeysBySplit = field(default_factory=dict)
    grades: KeysBySplit = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CellInfo:
    """One point of the grid. `variation` holds what `vary` changed in its recipe: option to value."""

    name: str
    recipe: str
    student: str
    seed: int
    data_seed: int
    turns: tuple[TurnInfo, ...]
    variation: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """A metric of a suite, as `harness.blocks.kinds.Metric`."""

    name: str
    unit: str = "share"


@dataclass(frozen=True, kw_only=True)
class SuiteInfo:
    """A suite of the plan. `label` says who judges; `headline` is the metric that figures show."""

    name: str
    version: str
    label: str
    metrics: tuple[MetricInfo, ...]
    headline: str
    items: Mapping[str, str] = field(default_factory=dict)
    """Split to the content identity of its items."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A planned grid. `untuned` holds iteration 0 of each student; `config` is the resolved configuration."""

    experiment: str
    plan_key: str
    config: Mapping[str, Any]
    baseline: str | None
    suites: Mapping[str, SuiteInfo]
    cells: tuple[CellInfo, ...]
    untuned: Mapping[str, TurnInfo]
    stages: Mapping[str, StageInfo]


def read(path: Path) -> Grid:
    """Reads a grid file.

    Raises:
        UserError: there is none (the experiment never ran here), or it is not a grid file.
    """
    try:
        return _grid(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such grid file, so nothing to log: run the experiment first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: this is not a grid file ({error!r}): run the experiment again to renew it") from error


def _grid(raw: Mapping[str, Any]) -> Grid:
    return Grid(
        experiment=raw["experiment"],
        plan_key=raw["plan_key"],
        config=raw["resolved"],
        baseline=raw.get("baseline"),
        suites={name: _suite(name, suite) for name, suite in raw["suites"].items()},
        cells=tuple(_cell(cell) for cell in raw["cells"]),
        untuned={name: _turn(turn) for name, turn in raw["untuned"].items()},
        stages={key: _stage(key, stage) for key, stage in raw["stages"].items()},
    )


def _stage(key: str, raw: Mapping[str, Any]) -> StageInfo:
    return StageInfo(key=key, kind=raw["kind"], label=raw["label"], inputs=tuple(raw["inputs"]))


def _suite(name: str, raw: Mapping[str, Any]) -> SuiteInfo:
    return SuiteInfo(
        name=name,
        version=str(raw["version"]),
        label=raw["label"],
        metrics=tuple(MetricInfo(name=m["name"], unit=m["unit"]) for m in raw["metrics"]),
        headline=raw["headline"],
        items=raw["items"],
    )


def _cell(raw: Mapping[str, Any]) -> CellInfo:
    return CellInfo(
        name=raw["name"],
        recipe=raw["recipe"],
        student=raw["student"],
        seed=raw["seed"],
        data_seed=raw["data_seed"],
        turns=tuple(_turn(turn) for turn in raw["iterations"]),
        variation=_variation(raw["recipe"]),
    )


def _turn(raw: Mapping[str, Any]) -> TurnInfo:
    return TurnInfo(
        iteration=raw["iteration"],
        steps=tuple(raw["steps"].items()),
        train=frozenset(raw["train"]),
        answers=raw["answers"],
        grades=raw["grades"],
    )


def _variation(recipe: str) -> dict[str, str]:
    """`ifd-10[top.keep=5%, top.by=ifd]` to {"top.keep": "5%", "top.by": "ifd"}."""
    inside = re.search(r"\[(.*)\]$", recipe)
    pairs = [part.partition("=") for part in inside[1].split(",")] if inside else []
    return {name.strip(): value.strip() for name, _, value in pairs}
