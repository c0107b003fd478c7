"""Claims about rows: that a score finds planted defects, or lies higher in one recipe's rows than in another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.analysis.claim_recipes import REST
from harness.analysis.claim_result import ClaimResult
from harness.analysis.defects import Scored, measured
from harness.analysis.grid import Grid
from harness.config.claims import RowsClaim, ScorerClaim, place_of
from harness.errors import CannotTell, UserError
from harness.loop.inputs import load_frame
from harness.loop.stage import Input
from harness.stats import ALPHA, unpaired
from harness.stats.power import POWER

if TYPE_CHECKING:
    import pandas as pd


def of_scorer(claim: ScorerClaim, steps: Sequence[Scored]) -> ClaimResult:
    """The area under the ROC curve of a score, for planted defects against clean rows."""
    blank = ClaimResult(
        id=claim.id,
        text=claim.text,
        source=claim.source,
        kind="scorer",
        measure=f"AUROC of {claim.scorer}",
        compared=f"{' or '.join(claim.defects)} against clean rows",
        side=claim.side,
        null=0.5,
        unit="share",
    )
    step = next((s for s in steps if claim.scorer in s.scores and claim.recipe in (None, s.recipe)), None)
    if step is None:
        why = f"no finished score step has {claim.scorer} for rows that tell their planted defect"
        return replace(blank, reason=why, settle=f"{REST}, on a pool with planted defects")
    area, missing, reason = measured(step.rows, claim.scorer, claim.defects)
    if area is None:
        return replace(blank, reason=reason, settle="more rows in the pool")
    lost = f" ({missing:,} without a score)" if missing else ""
    return replace(
        blank,
        value=area.value,
        low=area.low,
        high=area.high,
        p=area.p,
        sample=f"{area.marked:,} and {area.others:,} rows{lost}",
        settle=_more_rows(area.value - 0.5, (area.high - area.low) / 2),
    )


def of_rows(claim: RowsClaim, grid: Grid, student: str) -> ClaimResult:
    """The difference of the mean scores of two recipes' rows."""
    steps = dict.fromkeys(step for step in (claim.step, claim.than_step) if step is not None)
    where = f"of step {' against '.join(steps)}" if steps else "that train"
    blank = ClaimResult(
        id=claim.id,
        text=claim.text,
        source=claim.source,
        kind="rows",
        measure=f"mean {claim.score} of rows {where}",
        compared=f"{claim.better} - {claim.than}",
        side=claim.side,
    )
    try:
        sides = [
            _row_scores(grid, name, student, claim.score, step)
            for name, step in ((claim.better, claim.step), (claim.than, claim.than_step or claim.step))
        ]
        found = unpaired(*sides)
    except (CannotTell, UserError) as error:  # the latter: rows without such a score
        return replace(blank, reason=str(error), settle=REST)
    return replace(
        blank,
        value=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        sample=f"{found.first:,} and {found.second:,} rows of {_draws(grid)}",
        settle=_more_rows(found.value, (found.high - found.low) / 2),
    )


def _row_scores(grid: Grid, named: str, student: str, score: str, step: str | None) -> list[float]:
    """The finite scores of the rows that are meant, of the first training seed of each data draw.

    Raises:
        CannotTell: the rows are not there yet, or have no such score.
    """
    recipe, iteration = place_of(named)
    cells = {cell.data_seed: cell for cell in reversed(grid.cells_of(recipe, student))}
    values: list[float] = []
    for cell in cells.values():
        turn = next((t for t in cell.turns if t.iteration == (iteration or cell.last.iteration)), None)
        key = None if turn is None else turn.steps.get(step) if step else next(reversed(turn.train), None)
        if key is None:
            raise CannotTell(f"{named} has no such step")
        reads = [Input(key=key)] if step else [Input(**read) for read in grid.stages[key].get("reads") or ()]
        if not reads or any(grid.manifest(read.key) is None for read in reads):
            raise CannotTell(f"the rows of {named} are not there yet")
        values += _finite(load_frame(grid.store, reads, [score])[score])
    return values


def _finite(column: pd.Series[float]) -> list[float]:
    import numpy as np

    values = column.astype(float)
    return [float(value) for value in values[np.isfinite(values)]]


def _draws(grid: Grid) -> str:
    number = len({cell.data_seed for cell in grid.cells})
    return "one data draw" if number == 1 else f"{number} data draws"


def _more_rows(distance: float, half: float) -> str:
    """How many times the rows would find a difference of this size, by normal theory."""
    from scipy.special import ndtri

    if not distance or not half:
        return "nothing that more rows could show: the difference is 0 or has no noise"
    error = half / float(-ndtri(ALPHA / 2))
    factor = ((float(-ndtri(ALPHA / 2)) + float(ndtri(POWER))) * error / abs(distance)) ** 2
    return f"about {factor:,.1f} times the rows" if factor > 1 else "a smaller family of claims"
