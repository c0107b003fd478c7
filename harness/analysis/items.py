"""Every graded item of an experiment as one pandas table: what all statistics are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.grid import UNTUNED, Grid, Turn, read_grid
from harness.records import evaltables

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

CELL = ("recipe", "student", "seed", "data_seed", "iteration", "suite", "split")
COLUMNS = (*CELL, "metric", "id", "item", "cluster", "category", "value", "repeat", "missing", "flag")


def items(home: Path, experiment: str, split: str = "test") -> pd.DataFrame:
    """One row per recipe, student, seed, data seed, iteration, suite, metric and graded item.

    `id` is unique within a suite (a turn of a question has its own), `item` the question, `cluster` what joins items
    that are not independent; `value` is NaN where a grade is missing and `missing` says why. Where an answer was judged
    several times there is one row per `repeat`. `flag` names what makes an answer suspect of having talked to its
    judge, empty where nothing does. The untuned student is the recipe `untuned` at iteration 0. Stages that are not
    finished give no rows.

    Raises:
        CannotTell: the experiment was never run in this home.
    """
    return read_items(read_grid(home, experiment), split)


def read_items(grid: Grid, split: str = "test") -> pd.DataFrame:
    """The items of a grid that was read already; see `items`."""
    import numpy as np
    import pandas as pd

    parts = [part for where, key in _grades(grid, split) for part in _columns(grid, where, key)]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in COLUMNS})


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


def _columns(grid: Grid, where: Mapping[str, Any], key: str) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The columns of one table of grades, once per metric. Arrays: hundreds of small frames would take seconds."""
    import numpy as np

    if not grid.store.done("grades", key):
        return
    columns = evaltables.grades_columns(grid.store.open("grades", key) / "grades.parquet")
    texts = {name: columns[name].astype(object) for name in ("id", "item", "cluster", "category", "missing", "flag")}
    texts["cluster"] = np.where(texts["cluster"].astype(bool), texts["cluster"], texts["item"])
    for name, given in columns.items():
        if name.startswith(evaltables.VALUE):
            metric = name.removeprefix(evaltables.VALUE)
            row, repeat, values = _repeated(given, columns.get(evaltables.REPEATS + metric))
            every = {**where, "metric": metric}
            common = {
                n: np.full(len(row), v, dtype=object if isinstance(v, str) else np.int64) for n, v in every.items()
            }
            kept = texts if repeat is None else {n: column[row] for n, column in texts.items()}
            yield {**common, **kept, "value": values, "repeat": row * 0 if repeat is None else repeat}


def _repeated(
    values: npt.NDArray[Any], repeats: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[Any]]:
    """Row, repeat and value: one entry per grade, or per repeat where a grade has several (None: none has)."""
    import numpy as np

    place = np.arange(len(values))
    if repeats is None or not any(each is not None and len(each) > 1 for each in repeats):
        return place, None, values.astype(np.float64)
    given = [
        np.asarray(each, dtype=np.float64)
        if each is not None and len(each) > 1
        else np.array([value], dtype=np.float64)
        for value, each in zip(values.tolist(), repeats, strict=True)
    ]
    counts = [len(each) for each in given]
    return np.repeat(place, counts), np.concatenate([np.arange(n) for n in counts]), np.concatenate(given)
