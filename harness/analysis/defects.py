"""How well scores find planted defects: pools of the pocket world say of each row which defect it has, if any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.claim_result import ScorerResult
from harness.analysis.grid import Grid
from harness.errors import CannotTell
from harness.loop.inputs import ROWS
from harness.records import table
from harness.records.rowwriter import SCORE, TAG
from harness.stats import Auroc, auroc

if TYPE_CHECKING:
    import pandas as pd

DEFECT = "tag:defect"
"""The column that names a row's planted defect; empty for a clean row."""
ANY = "any"


@dataclass(frozen=True)
class Scored:
    """The rows of one score step: columns id, group, the defect, and the scores that this step wrote."""

    recipe: str
    step: str
    key: str
    """Of the stage."""
    rows: pd.DataFrame
    scores: tuple[str, ...]


def scored_steps(grid: Grid, recipes: Iterable[str]) -> Iterator[Scored]:
    """The finished score steps whose rows say which defect they have, of the first data draw.

    An iteration scores rows of its own: a recipe with several gives one entry for each. Recipes may share a stage.
    """
    for recipe in recipes:
        cell = next(cell for cell in grid.cells if cell.recipe == recipe)
        for turn in cell.turns:
            for step, key in turn.steps.items():
                if grid.stages[key]["action"] == "score" and grid.manifest(key) is not None:
                    name = f"{step} i{turn.iteration}" if len(cell.turns) > 1 else step
                    found = _read(grid, key)
                    if found is not None:
                        yield Scored(recipe, name, key, *found)


def _read(grid: Grid, key: str) -> tuple[pd.DataFrame, tuple[str, ...]] | None:
    """The rows of a score stage and its own scores; None where no row tells its defect."""
    import pyarrow.parquet as pq

    path = grid.store.open("rows", key) / ROWS
    names = pq.read_schema(path).names
    before = {name for parent in grid.stages[key]["parents"] for name in _scores_of(grid, parent)}
    own = tuple(n.removeprefix(SCORE) for n in names if n.startswith(SCORE) and n not in before)
    if not own or TAG + "defect" not in names:
        return None
    return table.frame(path, ["id", "group", DEFECT, *own]), own


def _scores_of(grid: Grid, key: str) -> list[str]:
    """The score columns of a stage's rows; none where it has no rows here."""
    import pyarrow.parquet as pq

    if grid.stages.get(key, {}).get("kind") != "rows" or grid.manifest(key) is None:
        return []
    return [n for n in pq.read_schema(grid.store.open("rows", key) / ROWS).names if n.startswith(SCORE)]


def measured(rows: pd.DataFrame, score: str, defects: Sequence[str]) -> tuple[Auroc | None, int, str]:
    """The area of a score for some defects (none: all) against clean rows; rows without a score; why there is none."""
    import numpy as np

    planted = rows[DEFECT].notna() if not defects else rows[DEFECT].isin(list(defects))
    part = rows[planted | rows[DEFECT].isna()]
    there = part[np.isfinite(part[score].astype(float))]
    missing = len(part) - len(there)
    try:
        marked = there[DEFECT].notna().to_numpy()
        return auroc(there[score].to_numpy(float), marked, clusters=there["group"].tolist()), missing, ""
    except CannotTell as error:
        return None, missing, str(error)


def scorer_results(steps: Iterable[Scored]) -> tuple[ScorerResult, ...]:
    """Every score against every planted defect of its rows, and against all of them together; each stage once."""
    once = {step.key: step for step in reversed(tuple(steps))}
    ordered = reversed(once.values())
    return tuple(_result(step, score, kind) for step in ordered for score in step.scores for kind in _kinds(step))


def _kinds(step: Scored) -> tuple[str, ...]:
    kinds = sorted(set(step.rows[DEFECT].dropna()))
    return (*kinds, ANY) if len(kinds) > 1 else tuple(kinds)


def _result(step: Scored, score: str, kind: str) -> ScorerResult:
    area, missing, reason = measured(step.rows, score, () if kind == ANY else (kind,))
    clean = int(step.rows[DEFECT].isna().sum())
    planted = int(step.rows[DEFECT].notna().sum() if kind == ANY else (step.rows[DEFECT] == kind).sum())
    return ScorerResult(
        scorer=score,
        recipe=step.recipe,
        step=step.step,
        defect=kind,
        value=area.value if area else None,
        low=area.low if area else None,
        high=area.high if area else None,
        p=area.p if area else None,
        defective=area.marked if area else planted,
        clean=area.others if area else clean,
        missing=missing,
        reason=reason,
    )
