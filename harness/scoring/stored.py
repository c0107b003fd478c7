"""The answers that an experiment stored, to be scored again: under a newer suite, or by another judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.analysis.grid import UNTUNED, Grid, Turn, read_grid
from harness.blocks.kinds import Answer, EvalItem
from harness.errors import CannotTell, UserError
from harness.records import evaltables
from harness.scoring.align import ABSENT
from harness.store.home import Home

Run = tuple[int, int]
"""(data seed, training seed)"""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The answers of a recipe's last iteration, one list per run, aligned with the items."""

    runs: Mapping[Run, tuple[Answer, ...]]
    version: int
    """Of the suite under which they were graded at the time."""
    iteration: int
    notes: tuple[str, ...]


def read_stored(home: Home, written: str, suite: str, split: str, items: Sequence[EvalItem]) -> dict[str, Stored]:
    """The answers that `EXPERIMENT/RECIPE` names (`EXPERIMENT/untuned` for the untuned student), by a name for each.

    Of an experiment with several students each is one entry, `EXPERIMENT/RECIPE/STUDENT`, which names one alone too.

    Raises:
        CannotTell: the experiment was never run, or has no finished answers to this suite.
        UserError: it has no such recipe or suite, or other items than the suite has now.
    """
    experiment, _, recipe = written.partition("/")
    grid = read_grid(home.path, experiment)
    if suite not in grid.suites:
        raise UserError(f"{experiment} has no suite {suite!r}; its suites: {', '.join(grid.suites)}")
    recipe, students = _students(grid, recipe)
    several = len(grid.students) > 1
    names = {student: f"{experiment}/{recipe}/{student}" if several else written for student in students}
    return {name: _read(grid, (recipe, student), (suite, split), items, name) for student, name in names.items()}


def _students(grid: Grid, written: str) -> tuple[str, tuple[str, ...]]:
    """The recipe, and the students whose answers are meant: all, or the one that is named behind it."""
    recipe, _, student = written.rpartition("/")
    return (recipe, (student,)) if recipe and student in grid.students else (written, grid.students)


def _read(grid: Grid, arm: tuple[str, str], where: tuple[str, str], items: Sequence[EvalItem], written: str) -> Stored:
    """The answers of one arm, a recipe and a student, on a suite's split."""
    suite, split = where
    turns = _turns(grid, *arm)
    runs = {}
    for run, turn in turns.items():
        key = turn.answers.get(suite, {}).get(split)
        if key is not None and grid.store.done("answers", key):
            rows = evaltables.read_answers(grid.store.open("answers", key) / "answers.parquet")
            runs[run] = _aligned([_answer(row) for row in rows], items, written)
    if not runs:
        raise CannotTell(
            f"{written} has no finished answers to {suite} ({split}): `loopbench run {grid.experiment}` makes them"
        )
    left = len(turns) - len(runs)
    iteration = max(turn.iteration for turn in turns.values())
    return Stored(
        runs=dict(sorted(runs.items())),
        version=grid.suites[suite].version,
        iteration=iteration,
        notes=(f"{left} of {len(turns)} runs have no finished answers",) if left else (),
    )


def _turns(grid: Grid, recipe: str, student: str) -> dict[Run, Turn]:
    if recipe == UNTUNED:
        return {(0, 0): grid.untuned[student]}
    cells = grid.cells_of(recipe, student)
    if not cells:
        known = ", ".join((*grid.recipes, UNTUNED))
        who = f", its students: {', '.join(grid.students)}" if len(grid.students) > 1 else ""
        raise UserError(f"{grid.experiment} has no recipe {recipe!r}; its recipes: {known}{who}")
    return {(cell.data_seed, cell.seed): cell.last for cell in cells}


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(**row)


def _aligned(answers: Sequence[Answer], items: Sequence[EvalItem], written: str) -> tuple[Answer, ...]:
    given = {answer.item: answer for answer in answers}
    wanted = {item.id for item in items}
    if not wanted & given.keys():
        raise UserError(
            f"{written} answered other items ({next(iter(given), 'none')}, ...) than this suite has now "
            f"({next(iter(wanted), 'none')}, ...): they must be answered anew"
        )
    absent = Answer(item="", outputs=(), data={"error": ABSENT})
    return tuple(given.get(item.id) or replace(absent, item=item.id) for item in items)
