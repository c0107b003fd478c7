"""Which claims hold? Each claim of an experiment beside what the experiment measured.

A claim about recipes is the paired difference that `compare` makes (items and training seeds random), a claim about a
score its area under the ROC curve for rows with a planted defect, a claim about rows a difference of means. P-values
are corrected by Holm over all claims of the experiment. A claim holds where the corrected test finds the difference on
its side, does not hold where it finds it on the other; else nobody can tell, and the result says what would settle it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.analysis.claim_recipes import Look, of_recipes
from harness.analysis.claim_result import CANNOT_TELL, DOES_NOT, HOLDS, ClaimResult, Claims
from harness.analysis.claim_rows import of_rows, of_scorer
from harness.analysis.costs import arm_cost
from harness.analysis.defects import Scored, scored_steps, scorer_results
from harness.analysis.grid import Grid, read_grid
from harness.analysis.items import read_items
from harness.analysis.numbers import things
from harness.config.claims import Claim, RowsClaim, ScorerClaim, claim_of
from harness.stats import ALPHA, holm


def claims_of_experiment(home: Path, experiment: str, split: str = "test") -> Claims | None:
    """The claims of an experiment's last run; None where it makes none.

    Raises:
        CannotTell: it was never run in this home.
    """
    grid = read_grid(home, experiment)
    return read_claims(grid, split) if grid.resolved.get("claims") else None


def read_claims(grid: Grid, split: str = "test") -> Claims:
    """As `claims_of_experiment`, of a grid that was read already."""
    claims = [claim_of(raw) for raw in grid.resolved.get("claims") or ()]
    look = Look(grid, split, read_items(grid, split))
    steps = tuple(scored_steps(grid, _scorer_recipes(grid, claims)))
    several = len(grid.students) > 1
    found = [
        replace(one, id=f"{one.id}/{student}") if several else one
        for student in grid.students
        for claim in claims
        for one in [_result(claim, look, student, steps)]
        if not isinstance(claim, ScorerClaim) or student == grid.students[0]
    ]
    judged = _judged(found)
    return Claims(
        experiment=grid.experiment,
        split=split,
        seeds=tuple(sorted({cell.seed for cell in grid.cells})),
        data_seeds=tuple(sorted({cell.data_seed for cell in grid.cells})),
        results=judged,
        scorers=scorer_results(steps),
        family=sum(one.p is not None for one in judged),
        warnings=tuple(_warnings(grid)),
    )


def _scorer_recipes(grid: Grid, claims: Sequence[Claim]) -> tuple[str, ...]:
    """The recipes whose scores are measured: those that claims name, else all."""
    named = dict.fromkeys(c.recipe for c in claims if isinstance(c, ScorerClaim) and c.recipe is not None)
    return tuple(named) or grid.recipes


def _result(claim: Claim, look: Look, student: str, steps: Sequence[Scored]) -> ClaimResult:
    if isinstance(claim, ScorerClaim):
        return of_scorer(claim, steps)
    if isinstance(claim, RowsClaim):
        return of_rows(claim, look.grid, student)
    return of_recipes(claim, look, student)


def _judged(results: Sequence[ClaimResult]) -> tuple[ClaimResult, ...]:
    """Verdicts, with p-values corrected over all claims that have one."""
    adjusted = iter(holm([one.p for one in results if one.p is not None]))
    return tuple(_with_verdict(one, next(adjusted)) if one.p is not None else one for one in results)


def _with_verdict(one: ClaimResult, p: float) -> ClaimResult:
    one = replace(one, p_holm=p)
    if one.reason or p >= ALPHA:
        return one
    settled = f"settled by {one.sample}" + (f" and {things(one.runs, 'training seed')}" if one.runs else "")
    return replace(one, verdict=HOLDS if one.towards else DOES_NOT, settle=settled)


def _warnings(grid: Grid) -> list[str]:
    left = {recipe: sum(arm_cost(grid, recipe, s).unfinished for s in grid.students) for recipe in grid.recipes}
    return [f"{recipe}: {things(number, 'unfinished stage')}" for recipe, number in left.items() if number]


__all__ = ["CANNOT_TELL", "DOES_NOT", "HOLDS", "ClaimResult", "Claims", "claims_of_experiment", "read_claims"]
