"""Every graded item of an experiment as one pandas table: what all statistics are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.grid import UNTUNED, Grid, Turn, read_grid
from harness.records import evaltables

if TYPE_CHECKING:
    import pandas as pd

CELL = ("recipe", "student", "seed", "data_seed", "iteration", "suite", "split")
COLUMNS = (*CELL, "metric", "id", "item", "cluster", "category", "value", "missing")


def items(home: Path, experiment: str, split: str = "test") -> pd.DataFrame:
    """One row per recipe, student, seed, data seed, iteration, suite, metric and graded item.

    `id` is unique within a suite (a turn of a question has its own), `item` the question, `cluster` what joins items
    that are not independent; `value` is NaN where a grade is missing and `missing` says why. The untuned student is the
    recipe `untuned` at iteration 0. Stages that are not finished give no rows.

    Raises:
        CannotTell: the experiment was never run in this home.
    """
    return read_items(read_grid(home, experiment), split)


def read_items(grid: Grid, split: str = "test") -> pd.DataFrame:
    """The items of a grid that was read already; see `items`."""
    import pandas as pd

    frames = [frame for where, key in _grades(grid, split) if (frame := _frame(grid, where, key)) is not None]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _grades(grid: Grid, split: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Cell coordinates and the key of the grades."""
    for student, turn in grid.untuned.items():
        yield from _of_turn({"recipe": UNTUNED, "student": student, "seed": 0, "data_seed": 0}, turn, split)
    for cell in grid.cells:
        where = {"recipe": cell.recipe, "student": cell.student, "seed": cell.seed, "data_seed": cell.data_seed}
        for turn in cell.turns:
            yield from _of_turn(where, turn, split)


def _of_turn(where: Mapping[str, Any], turn: Turn, split: str) -> Iterator[tuple[dict[str, Any], str]]:
    for suite, splits in turn.grades.items():
        if split in splits:
            yield {**where, "iteration": turn.iteration, "suite": suite, "split": split}, splits[split]


def _frame(grid: Grid, where: Mapping[str, Any], key: str) -> pd.DataFrame | None:
    if not grid.store.done("grades", key):
        return None
    table = evaltables.grades_frame(grid.store.open("grades", key) / "grades.parquet")
    kept = ["id", "item", "cluster", "category", "missing"]
    names = [str(name) for name in table.columns]
    values = {name: name.removeprefix(evaltables.VALUE) for name in names if name.startswith(evaltables.VALUE)}
    if table.empty or not values:
        return None
    long = table[[*kept, *values]].rename(columns=values).melt(kept, var_name="metric", value_name="value")
    long["value"] = long["value"].astype("float64")
    long["cluster"] = long["cluster"].where(long["cluster"].astype(bool), long["item"])
    for name, value in where.items():
        long[name] = value
    return long[list(COLUMNS)]
