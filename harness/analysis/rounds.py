"""The iterations of a loop side by side: rows, pairs, training, scores, and whether another one pays.

The stop rule looks at what may steer: the training's own signal, from prompts that did not train (see
`harness.finetune._rounds`), and the gain on the dev split where the loop evaluates one. Scores of the test split stand
in the table, and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.analysis.grid import Cell, Grid, Turn, read_grid
from harness.analysis.items import read_items

LEAST_GAIN = 0.005
"""A gain on the dev split below this is none: the paper's last round gained 0.0019 (arXiv 2401.01335, section 6.2)."""
_FIRST = ("loss", "logps/chosen", "logps/rejected")
_LAST = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One iteration of one arm. `values` are means over its finished cells; `stop` are the reasons to stop after it."""

    recipe: str
    student: str
    iteration: int
    cells: int
    values: Mapping[str, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()


def rounds(home: Path, experiment: str, least_gain: float = LEAST_GAIN) -> list[Round]:
    """Every iteration of every arm that has a finished cell.

    Raises:
        CannotTell: the experiment was never run in this home.
    """
    grid = read_grid(home, experiment)
    scores = {split: _scores(grid, split) for split in ("dev", "test")}
    found: list[Round] = []
    for recipe in grid.recipes:
        for student in grid.students:
            found += _arm(grid, grid.cells_of(recipe, student), scores, least_gain)
    return found


def to_json(found: Sequence[Round]) -> list[dict[str, Any]]:
    """As plain JSON."""
    return [asdict(one) for one in found]


Scores = Mapping[tuple[str, str, int, int, int], float]


def _arm(grid: Grid, cells: Sequence[Cell], scores: Mapping[str, Scores], least: float) -> Iterator[Round]:
    for index in range(max((len(cell.turns) for cell in cells), default=0)):
        done = [(cell, cell.turns[index]) for cell in cells if index < len(cell.turns)]
        done = [(cell, turn) for cell, turn in done if all(grid.manifest(key) for key in turn.train)]
        if not done:
            continue
        each = [_steps(grid, turn) | _gains(cell, turn, scores) | _notes(grid, turn) for cell, turn in done]
        names = dict.fromkeys(name for values in each for name, value in values.items() if isinstance(value, float))
        means = {name: _mean([v[name] for v in each if name in v]) for name in names}
        notes = [str(values["stop"]) for values in each if "stop" in values]
        cell, turn = done[0]
        yield Round(
            recipe=cell.recipe,
            student=cell.student,
            iteration=turn.iteration,
            cells=len(done),
            values=means,
            stop=tuple(_reasons(notes, len(done), means, least)),
        )


def _reasons(notes: Sequence[str], cells: int, means: Mapping[str, float], least: float) -> Iterator[str]:
    says = [note for note in notes if note.startswith("stop")]
    if len(says) > cells / 2:
        yield f"{len(says)} of {cells} trainings say {says[0]}"
    if means.get("equal answers") == 1:
        yield "stop: every answer equals the data's, so the round has no pair of its own"
    if "dev gain" in means and means["dev gain"] < least:
        yield f"stop: the dev score gains {means['dev gain']:+.4f}, less than {least}"


def _steps(grid: Grid, turn: Turn) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in turn.steps.values():
        manifest = grid.manifest(key) or {}
        report = manifest.get("report") or {}
        given = {**(report.get("figures") or {})}
        if key in turn.train:
            given |= {"rows": report.get("rows"), "train tokens": report.get("train_tokens")}
            given |= _history(report.get("history") or ())
        values |= {name: float(value) for name, value in given.items() if isinstance(value, int | float)}
    return values


def _history(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    if not history:
        return {}
    first = {f"first {name}": history[0][name] for name in _FIRST if name in history[0]}
    return first | {f"last {name}": history[-1][name] for name in _LAST if name in history[-1]}


def _notes(grid: Grid, turn: Turn) -> dict[str, str]:
    notes = [((grid.manifest(key) or {}).get("report") or {}).get("notes") or {} for key in turn.train]
    says = next((note["stop"] for note in reversed(notes) if "stop" in note), None)
    return {} if says is None else {"stop": says}


def _gains(cell: Cell, turn: Turn, scores: Mapping[str, Scores]) -> dict[str, float]:
    values = {}
    for split, known in scores.items():
        here, before = (
            known.get((cell.recipe, cell.student, cell.seed, cell.data_seed, turn.iteration - back)) for back in (0, 1)
        )
        if here is not None:
            values[split] = here
            if before is not None:
                values[f"{split} gain"] = here - before
    return values


def _scores(grid: Grid, split: str) -> Scores:
    """Mean of the suites' headline metrics by cell and iteration."""
    frame = read_items(grid, split)
    headline = {name: facts.headline for name, facts in grid.suites.items()}
    if frame.empty:
        return {}
    frame = frame[frame["metric"] == frame["suite"].map(headline)]
    by = ["recipe", "student", "seed", "data_seed", "iteration"]
    means = frame.groupby([*by, "suite"])["value"].mean().groupby(by).mean()
    keys = [(str(r), str(s), int(seed), int(data), int(i)) for r, s, seed, data, i in means.index.to_list()]
    return {key: float(value) for key, value in zip(keys, means, strict=True) if not math.isnan(value)}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
