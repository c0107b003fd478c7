"""One suite of a comparison: scores, differences to the baseline, and which pairs are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from harness.analysis.arms import Arm, aligned, arm_of, common_runs, draws
from harness.analysis.costs import ArmCost, arm_cost
from harness.analysis.grid import UNTUNED, Grid, SuiteFacts
from harness.analysis.result import BASELINE, NO_DATA, ArmResult, SuiteResult
from harness.blocks.kinds import Metric
from harness.stats import ALPHA, MIN_RUNS, Difference, Estimate, difference, holm, paired_test, score
from harness.stats.estimate import Noise

if TYPE_CHECKING:
    import pandas as pd

_BOUNDS = {"share": (0.0, 1.0)}


def bounds_of(unit: str) -> tuple[float, float] | None:
    """Lowest and highest value of a metric of this unit, where the unit says."""
    return _BOUNDS.get(unit)


def compare_suite(
    frame: pd.DataFrame, grid: Grid, facts: SuiteFacts, metric: Metric, student: str, base: str, split: str
) -> tuple[SuiteResult, Mapping[str, Arm]]:
    """The result of one suite without verdicts (they need all suites), and the arms that have grades.

    Args:
        frame: items of this suite, metric and student, of every recipe and iteration.
        grid: the experiment.
        facts: the suite.
        metric: of the suite.
        student: the student's role.
        base: the baseline recipe.
        split: of the items.

    Raises:
        CannotTell: two arms were scored on different items.
    """
    arms = _arms(frame, grid, student, base)
    cost = {recipe: arm_cost(grid, recipe, student) for recipe in grid.recipes}
    results = [_arm_result(frame, recipe, arms, cost, base, metric) for recipe in grid.recipes]
    sign = 1.0 if metric.higher_is_better else -1.0
    results.sort(key=lambda a: (a.score is None, 0.0 if a.score is None else -sign * a.score.value))
    untuned = frame[frame["recipe"] == UNTUNED]
    used = [run for arm in arms.values() for run in arm.runs]
    return SuiteResult(
        suite=facts.name,
        split=split,
        version=facts.version,
        label=facts.label,
        stand_in=facts.stand_in,
        real=facts.real,
        metric=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        student=student,
        items=len(next(iter(arms.values())).ids) if arms else 0,
        baseline=base,
        arms=tuple(results),
        untuned=estimate(arm_of(untuned, UNTUNED), metric.unit) if not untuned.empty else None,
        groups=(),
        noise=_shares([a.difference.noise for a in results if a.difference is not None]),
        scope=_scope(len({seed for _, seed in used}), draws(tuple(used))),
    ), arms


def _arms(frame: pd.DataFrame, grid: Grid, student: str, base: str) -> dict[str, Arm]:
    """Every recipe's arm at its last iteration, columns aligned; recipes without grades are left out."""
    found = {}
    for recipe in grid.recipes:
        last = max(cell.last.iteration for cell in grid.cells_of(recipe, student))
        part = frame[(frame["recipe"] == recipe) & (frame["iteration"] == last)]
        if not part.empty:
            found[recipe] = arm_of(part, recipe)
    first = found.get(base) or next(iter(found.values()), None)
    return {recipe: aligned(arm, first.ids, first.recipe) for recipe, arm in found.items()} if first else {}


def _arm_result(
    frame: pd.DataFrame, recipe: str, arms: Mapping[str, Arm], cost: Mapping[str, ArmCost], base: str, metric: Metric
) -> ArmResult:
    arm, other = arms.get(recipe), arms.get(base)
    found, test = None, None
    if recipe != base and arm is not None and other is not None:
        found, test = arm_difference(arm, other, metric.unit)
    mine = frame[frame["recipe"] == recipe]
    reasons = mine.loc[mine["value"].isna(), "missing"].fillna("no reason given").value_counts()
    tokens = cost[base].train_tokens
    return ArmResult(
        recipe=recipe,
        score=estimate(arm, metric.unit) if arm is not None else None,
        difference=found,
        p_holm=None,
        test=test,
        verdict=BASELINE if recipe == base and arm is not None else NO_DATA,
        note="",
        history={int(str(i)): estimate(arm_of(part, recipe), metric.unit) for i, part in mine.groupby("iteration")},
        cost=cost[recipe],
        token_ratio=cost[recipe].train_tokens / tokens if tokens else None,
        missing={str(reason): int(n) for reason, n in reasons.items()},
    )


def estimate(arm: Arm, unit: str) -> Estimate:
    """The score of an arm."""
    return score(arm.all(), clusters=arm.clusters, bounds=bounds_of(unit))


def arm_difference(arm: Arm, other: Arm, unit: str) -> tuple[Difference | None, str | None]:
    """The paired difference over the runs that both have, and the test behind its p-value; (None, None) without any.

    With one run the p-value is that of an exact test on items, where each item stands for itself and none is missing.
    """
    from dataclasses import replace

    runs = common_runs(arm, other)
    if not runs:
        return None, None
    mine, theirs = arm.only(runs), other.only(runs)
    found = difference(mine, theirs, clusters=arm.clusters, bounds=bounds_of(unit))
    if found.random_runs:
        return found, "t over items and seeds"
    alone = found.runs == 1 and not found.missing and len(set(arm.clusters)) == len(arm.clusters)
    if not alone:
        return found, "t over items"
    p, test = paired_test(mine.mean(axis=-1)[0], theirs.mean(axis=-1)[0])
    return replace(found, p=p), test


def separable_pairs(arms: Sequence[Arm], unit: str) -> set[frozenset[str]]:
    """The pairs that are told apart after Holm's correction over all of them."""
    pairs = [(a, b, arm_difference(a, b, unit)[0]) for a, b in combinations(arms, 2)]
    known = [(a.recipe, b.recipe, found) for a, b, found in pairs if found is not None and found.runs >= MIN_RUNS]
    adjusted = holm([found.p for _, _, found in known])
    return {frozenset((a, b)) for (a, b, _), p in zip(known, adjusted, strict=True) if p < ALPHA}


def _shares(noises: Sequence[Noise]) -> dict[str, float]:
    """Shares of the summed variance of several differences."""
    whole = sum(noise.total for noise in noises)
    if whole <= 0:
        return {"seeds": 0.0, "items": 0.0, "judge": 0.0}
    return {name: sum(n.shares()[name] * n.total for n in noises) / whole for name in ("seeds", "items", "judge")}


def _scope(seeds: int, data_draws: int) -> str:
    """What a claim of this suite speaks of."""
    if seeds * max(1, data_draws) < MIN_RUNS:
        return f"these checkpoints only ({seeds} training seed{'s' if seeds != 1 else ''}; three are needed)"
    if data_draws >= MIN_RUNS:
        return f"{data_draws} data draws and their training seeds"
    return "training seeds, one data draw" if data_draws == 1 else f"training seeds; these {data_draws} data draws"
