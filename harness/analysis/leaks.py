"""Which items of a suite were in the rows that a model was trained on, cell by cell.

Under `leaks: drop` no such row is trained, so nothing is affected; under `allow` nothing was looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.grid import Cell, Grid, Turn, read_grid
from harness.records import hits
from harness.records.hits import HITS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "recipe", "student", "seed", "data_seed", "iteration", "suite", "split", "item", "rows", "sign", "share",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What the checks of an experiment found on one split of a suite, over all its training rows.

    `policy` is flag or drop; `rows` and `affected` count training rows and items, each once.
    """

    suite: str
    split: str
    policy: str
    items: int
    affected: int
    rows: int
    examples: tuple[str, ...]


def affected(home: Path, experiment: str) -> pd.DataFrame:
    """One row per cell, iteration and item whose text is in the rows behind that iteration's model.

    Columns: recipe, student, seed, data_seed, iteration, suite, split, item, rows (how many training rows hold it),
    sign (the strongest) and share (its strength, 0..1; see `harness.records.hits.Hit`). Empty where nothing was found.

    Raises:
        CannotTell: the experiment was never run in this home.
    """
    return read_affected(read_grid(home, experiment))


def read_affected(grid: Grid) -> pd.DataFrame:
    """As `affected`, of a grid that was read already."""
    import pandas as pd

    tables: dict[tuple[str, ...], pd.DataFrame] = {}
    parts = []
    for cell, turn in _turns(grid):
        if turn.leaks not in tables:
            tables[turn.leaks] = _items(grid, turn.leaks)
        if not tables[turn.leaks].empty:
            parts.append(tables[turn.leaks].assign(**_place(cell, turn)))
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def unchecked(grid: Grid) -> int:
    """Checks of training rows that are planned and not finished: what they would find is not known."""
    keys = {key for _, turn in _turns(grid) for key in turn.stages if grid.stages[key]["action"] == "leaks"}
    return sum(grid.manifest(key) is None for key in keys)


def found(grid: Grid) -> tuple[Found, ...]:
    """What the finished checks found, by suite and split, for reports. Empty under `leaks: allow`."""
    policy = str((grid.resolved.get("leaks") or {}).get("policy", ""))
    keys = dict.fromkeys(k for _, turn in _turns(grid) for k in turn.stages if grid.stages[k]["action"] == "leaks")
    manifests = {key: m for key in keys if (m := grid.manifest(key)) is not None}
    if not manifests:
        return ()
    table = _hits(grid, tuple(manifests))
    result = []
    for suite, splits in next(iter(manifests.values()))["report"]["suites"].items():
        for split, counts in splits.items():
            own = table[(table["suite"] == suite) & (table["split"] == split)]
            shown = tuple(
                dict.fromkeys(e for m in manifests.values() for e in m["report"]["suites"][suite][split]["examples"])
            )
            result.append(
                Found(suite, split, policy, counts["items"], own["item"].nunique(), own["row"].nunique(), shown[:3])
            )
    return tuple(result)


def _turns(grid: Grid) -> Iterator[tuple[Cell, Turn]]:
    for cell in grid.cells:
        for turn in cell.turns:
            yield cell, turn


def _place(cell: Cell, turn: Turn) -> dict[str, Any]:
    place = {name: getattr(cell, name) for name in ("recipe", "student", "seed", "data_seed")}
    return place | {"iteration": turn.iteration}


def _hits(grid: Grid, keys: tuple[str, ...]) -> pd.DataFrame:
    """All hits of several finished checks."""
    import pandas as pd

    done = [key for key in keys if grid.manifest(key) is not None]
    frames = [hits.frame(grid.store.open("leaks", key) / HITS) for key in done]
    empty = pd.DataFrame(columns=["row", "suite", "split", "item", "sign", "share", "text"])
    return pd.concat(frames, ignore_index=True) if frames else empty


def _items(grid: Grid, keys: tuple[str, ...]) -> pd.DataFrame:
    table = _hits(grid, keys)
    if table.empty:
        return table
    best = table.sort_values("share", ascending=False, kind="stable").drop_duplicates(["suite", "split", "item"])
    counts = table.groupby(["suite", "split", "item"])["row"].nunique().rename("rows").reset_index()
    return counts.merge(best[["suite", "split", "item", "sign", "share"]], on=["suite", "split", "item"])
