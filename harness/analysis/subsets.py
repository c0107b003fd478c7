"""Scores and differences without items that may mislead: answers that talk to the judge, questions seen in training.

Nothing is taken out of a score silently: these figures stand beside it. A score leaves out the arm's own items, in all
its runs; a difference leaves out those of both arms, so that pairs stay on equal items.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.arms import Arm, common_runs
from harness.analysis.grid import UNTUNED, Grid
from harness.errors import CannotTell
from harness.stats import Difference, Estimate, difference, score

if TYPE_CHECKING:
    import pandas as pd

FLAGGED, LEAKED = "flagged", "leaked"
Bounds = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Without:
    """An arm without some of its items. `left_out` counts the arm's own; `of_difference` those of both arms together.

    `reason` says why there is no score or no difference.
    """

    left_out: int
    score: Estimate | None = None
    of_difference: int = 0
    difference: Difference | None = None
    reason: str = ""


def affected_items(found: pd.DataFrame, grid: Grid, student: str, suite: str, split: str) -> dict[str, frozenset[str]]:
    """Recipe to the items of a suite that were in training rows of its last iteration's models, in any run.

    Args:
        found: as `harness.analysis.leaks.read_affected` gives it.
        grid: the experiment.
        student: the student's role.
        suite: its name.
        split: of the items.
    """
    here = found[(found["student"] == student) & (found["suite"] == suite) & (found["split"] == split)]
    if here.empty:
        return {}
    last = {recipe: max(c.last.iteration for c in grid.cells_of(recipe, student)) for recipe in grid.recipes}
    kept = here[here["iteration"] == here["recipe"].map(last)]
    return {str(recipe): frozenset(rows["item"]) for recipe, rows in kept.groupby("recipe")}


def without(
    arms: Mapping[str, Arm], leaked: Mapping[str, frozenset[str]], base: str, bounds: Bounds
) -> dict[str, dict[str, Without]]:
    """Recipe to what was left out (`flagged`, `leaked`) to the figures that remain; only where something was.

    Args:
        arms: recipe to its arm, aligned.
        leaked: recipe to the items that its models were trained on.
        base: the baseline recipe.
        bounds: of one grade.
    """
    flagged = {recipe: frozenset(arm.flagged) for recipe, arm in arms.items()}
    result: dict[str, dict[str, Without]] = {recipe: {} for recipe in arms}
    for name, items in ((FLAGGED, flagged), (LEAKED, leaked)):
        for recipe, arm in arms.items():
            own, other = items.get(recipe, frozenset()), items.get(base, frozenset())
            if (own | other) & set(arm.items):
                result[recipe][name] = _without(arm, own, arms.get(base), own | other, bounds)
    return result


def _without(arm: Arm, own: Collection[str], base: Arm | None, both: Collection[str], bounds: Bounds) -> Without:
    reasons: list[str] = []
    there = set(arm.items)
    value: Estimate | None = None
    found: Difference | None = None
    try:
        rest = arm.without(own) if own else arm
        value = score(rest.all(), clusters=rest.clusters, bounds=bounds)
    except CannotTell as error:
        reasons.append(str(error))
    if base is not None and base.recipe not in (arm.recipe, UNTUNED):
        try:
            found = _difference(arm.without(both), base.without(both), bounds)
        except CannotTell as error:
            reasons.append(str(error))
    return Without(
        left_out=len(there.intersection(own)),
        score=value,
        of_difference=len(there.intersection(both)) if found is not None else 0,
        difference=found,
        reason="; ".join(dict.fromkeys(reasons)),
    )


def _difference(arm: Arm, base: Arm, bounds: Bounds) -> Difference | None:
    runs = common_runs(arm, base)
    if not runs:
        return None
    return difference(arm.only(runs), base.only(runs), clusters=arm.clusters, bounds=bounds)


def reasons(flags: Iterable[str]) -> dict[str, int]:
    """How often each flag was given, from the texts of the column `flag`."""
    counts: dict[str, int] = {}
    for text in flags:
        for name in filter(None, (part.strip() for part in text.split(","))):
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
