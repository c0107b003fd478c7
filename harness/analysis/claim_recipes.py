"""Claims that one recipe beats another: the paired difference of `compare`, against the number that is claimed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.analysis import sentinels
from harness.analysis.arms import Arm, aligned, arm_of, common_runs
from harness.analysis.claim_result import ClaimResult
from harness.analysis.costs import ArmCost, arm_cost
from harness.analysis.grid import UNTUNED, Grid, SuiteFacts
from harness.analysis.notes import settle_text
from harness.analysis.numbers import count, things
from harness.config.claims import RecipeClaim, place_of
from harness.errors import CannotTell
from harness.stats import MIN_RUNS, difference, settle

if TYPE_CHECKING:
    import pandas as pd

REST = "the rest of the run"
"""What settles a claim whose grades or rows are not there yet."""
BUDGET_SLACK = 0.05
"""Beyond this share two sides that trained on unlike numbers of tokens are called so."""


@dataclass(frozen=True)
class Look:
    """What the claims are measured on: the grid, and its graded items."""

    grid: Grid
    split: str
    items: pd.DataFrame


def of_recipes(claim: RecipeClaim, look: Look, student: str) -> ClaimResult:
    """The paired difference of two recipes, items and training seeds random."""
    facts = look.grid.suites[claim.suite] if claim.suite is not None else next(iter(look.grid.suites.values()))
    metric = facts.metric(claim.metric)
    sign = 1.0 if metric.higher_is_better else -1.0
    null = sign * (claim.by - claim.margin)
    blank = ClaimResult(
        id=claim.id,
        text=claim.text,
        source=claim.source,
        kind="recipes",
        measure=f"{facts.name} {metric.name}" + (f" of {', '.join(claim.categories)}" if claim.categories else ""),
        compared=f"{claim.better} - {claim.than}",
        side="high" if metric.higher_is_better else "low",
        null=null,
        unit=metric.unit,
        budget=_budget(look.grid, claim, student),
    )
    if why := _unfit(look, facts):
        return replace(blank, reason=why, settle="grades by another judge")
    try:
        one, other = _arms(look, facts.name, metric.name, student, claim)
        runs = common_runs(one, other)
        if not runs:
            raise CannotTell("the two have no training seed in common")
        pairs = (one.only(runs), other.only(runs))
        found = difference(*pairs, clusters=one.clusters, bounds=metric.bounds, null=null)
    except CannotTell as error:
        return replace(blank, reason=str(error), settle=REST)
    few = found.runs < MIN_RUNS
    seconds = _seconds(look.grid, claim, student)
    return replace(
        blank,
        value=found.value,
        low=found.low,
        high=found.high,
        p=None if few else found.p,
        sample=things(found.n, "item") + (f" ({found.missing:,} grades missing)" if found.missing else ""),
        runs=found.runs,
        reason=f"{things(found.runs, 'training seed')} in both, and {MIN_RUNS} are needed" if few else "",
        settle=settle_text(settle(replace(found, value=found.value - null), seconds), metric.unit),
    )


def _unfit(look: Look, facts: SuiteFacts) -> str:
    """Why grades say nothing about quality: a program judged a real suite, or the judge drifted between them."""
    if facts.stand_in and facts.real:
        return f"{facts.name} was judged by a program ({facts.label}), which says nothing about quality"
    drift = sentinels.drifted(sentinels.readings(look.grid, facts.name, look.split))
    return "" if drift is None else sentinels.refusal(facts, drift)


def _arms(look: Look, suite: str, metric: str, student: str, claim: RecipeClaim) -> tuple[Arm, Arm]:
    """Both sides, their columns aligned; the untuned student stands for itself in every run of the other side.

    Raises:
        CannotTell: a side has no grades, or the two were scored on different items.
    """
    items = look.items
    here = items[(items["suite"] == suite) & (items["metric"] == metric) & (items["student"] == student)]
    if claim.categories:
        here = here[here["category"].isin(claim.categories)]
    named = (claim.better, claim.than)
    found = [_arm(look.grid, here, name, student) for name in named]
    one, other = found[0], aligned(found[1], found[0].ids, named[0])
    return _in_runs(one, other), _in_runs(other, one)


def _arm(grid: Grid, frame: pd.DataFrame, named: str, student: str) -> Arm:
    recipe, iteration = place_of(named)
    if recipe == UNTUNED:
        return arm_of(frame[frame["recipe"] == UNTUNED], UNTUNED)
    last = max(cell.last.iteration for cell in grid.cells_of(recipe, student))
    part = frame[(frame["recipe"] == recipe) & (frame["iteration"] == (iteration or last))]
    return replace(arm_of(part, recipe), recipe=named)


def _in_runs(arm: Arm, other: Arm) -> Arm:
    """The untuned student was measured once, and no training seed changes it."""
    if arm.recipe != UNTUNED or other.recipe == UNTUNED:
        return arm
    return replace(arm, runs=other.runs, values=arm.values[[0] * len(other.runs)])


def _costs(grid: Grid, claim: RecipeClaim, student: str) -> list[tuple[str, ArmCost]]:
    """The costs of both sides, where both are whole recipes."""
    places = [place_of(name) for name in (claim.better, claim.than)]
    whole = all(name != UNTUNED and iteration is None for name, iteration in places)
    return [(name, arm_cost(grid, name, student)) for name, _ in places] if whole else []


def _budget(grid: Grid, claim: RecipeClaim, student: str) -> str:
    """What the two sides trained on, generated and judged."""
    sides = _costs(grid, claim, student)
    if not sides:
        return ""
    (_, one), (_, other) = sides
    if not one.train_tokens and not other.train_tokens:
        return ""
    most = max(one.train_tokens, other.train_tokens)
    unequal = abs(one.train_tokens - other.train_tokens) > BUDGET_SLACK * most
    trained = f"trained {count(one.train_tokens)} and {count(other.train_tokens)} tokens"
    made = f", generated {count(one.generated_tokens)} and {count(other.generated_tokens)}"
    used = one.generated_tokens or other.generated_tokens
    return ("NOT EQUAL: " if unequal else "") + trained + (made if used else "")


def _seconds(grid: Grid, claim: RecipeClaim, student: str) -> float | None:
    """What one further training seed of both sides would take."""
    seconds = [cost.seconds_per_seed for _, cost in _costs(grid, claim, student)]
    known = [one for one in seconds if one is not None]
    return sum(known) if known and len(known) == len(seconds) else None
