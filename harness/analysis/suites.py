"""One suite of a comparison: scores, differences to the baseline, and which pairs are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from harness.analysis.aggregates import of_arm
from harness.analysis.arms import Arm, aligned, arm_of, common_runs, draws
from harness.analysis.costs import ArmCost, arm_cost
from harness.analysis.grid import UNTUNED, Grid, SuiteFacts
from harness.analysis.result import BASELINE, CANNOT_TELL, NO_DATA, ArmResult, Exact, SuiteResult
from harness.analysis.subsets import affected_items, reasons, without
from harness.blocks.kinds import Metric
from harness.errors import CannotTell
from harness.stats import (
    ALPHA,
    MIN_RUNS,
    Difference,
    Estimate,
    detectable,
    difference,
    holm,
    item_bootstrap,
    paired_test,
    score,
)
from harness.stats.estimate import Noise

if TYPE_CHECKING:
    import pandas as pd

Bounds = tuple[float, float] | None


def compare_suite(
    frame: pd.DataFrame,
    grid: Grid,
    facts: SuiteFacts,
    metric: Metric,
    student: str,
    base: str,
    split: str,
    affected: pd.DataFrame,
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
        affected: items that were in training rows (see `harness.analysis.leaks`).

    Raises:
        CannotTell: two arms were scored on different items.
    """
    arms = _arms(frame, grid, student, base)
    cost = {recipe: arm_cost(grid, recipe, student) for recipe in grid.recipes}
    steady = facts.judge is None or facts.stand_in  # programs judge alike every time
    results = [_arm_result(frame, recipe, arms, cost, base, metric, steady) for recipe in grid.recipes]
    leaked = affected_items(affected, grid, student, facts.name, split)
    beside = without(arms, leaked, base, metric.bounds)
    results = [
        replace(
            result,
            aggregates=of_arm(grid, result.recipe, student, facts.name, split, arms[result.recipe]),
            flags=_flags(frame, grid, arms[result.recipe], student),
            without=beside[result.recipe],
        )
        if result.recipe in arms
        else result
        for result in results
    ]
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
        untuned=estimate(arm_of(untuned, UNTUNED), metric.bounds)[0] if not untuned.empty else None,
        groups=(),
        noise=_shares([a.difference.noise for a in results if a.difference is not None]),
        scope=_scope(len({seed for _, seed in used}), draws(tuple(used))),
        bounds=metric.bounds,
        notes=facts.notes,
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
    frame: pd.DataFrame,
    recipe: str,
    arms: Mapping[str, Arm],
    cost: Mapping[str, ArmCost],
    base: str,
    metric: Metric,
    steady: bool,
) -> ArmResult:
    arm, other = arms.get(recipe), arms.get(base)
    value, reason = estimate(arm, metric.bounds) if arm is not None else (None, "")
    found, exact = None, None
    if recipe != base and arm is not None and other is not None:
        exact = exact_test(arm, other)
        try:
            found = arm_difference(arm, other, metric.bounds)
        except CannotTell as error:
            reason = reason or str(error)
    if found is not None and steady and found.noise.judge is None:
        found = replace(found, noise=replace(found.noise, judge=0.0))
    mine = frame[frame["recipe"] == recipe]
    absent = _absent(mine)
    tokens = cost[base].train_tokens
    return ArmResult(
        recipe=recipe,
        score=value,
        difference=found,
        p_holm=None,
        test=None if found is None else "t over items and seeds" if found.random_runs else "t over items",
        verdict=BASELINE if recipe == base and arm is not None else CANNOT_TELL if reason else NO_DATA,
        note="",
        history=_history(mine, recipe, metric.bounds, value),
        cost=cost[recipe],
        token_ratio=cost[recipe].train_tokens / tokens if tokens else None,
        missing=absent,
        exact=exact,
        reason=reason,
        detectable=detectable(found.noise) if found is not None and found.noise.total > 0 else None,
    )


def _absent(frame: pd.DataFrame) -> dict[str, int]:
    """Grades that are missing, by reason. A repeat that could not be read leaves the grade to the others."""
    gone = frame[frame["value"].isna() & (frame["repeat"] == 0)]
    if (frame["repeat"] > 0).any():
        gone = gone[gone["missing"].notna()]
    return {str(reason): int(n) for reason, n in gone["missing"].fillna("no reason given").value_counts().items()}


def _flags(frame: pd.DataFrame, grid: Grid, arm: Arm, student: str) -> dict[str, int]:
    """Suspect answers of the last iteration, each once, by what makes them so."""
    if not arm.flagged:
        return {}
    last = max(cell.last.iteration for cell in grid.cells_of(arm.recipe, student))
    own = frame[(frame["recipe"] == arm.recipe) & (frame["iteration"] == last) & (frame["flag"] != "")]
    return reasons(own.drop_duplicates(["data_seed", "seed", "item"])["flag"])


def _history(frame: pd.DataFrame, recipe: str, bounds: Bounds, last: Estimate | None) -> dict[int, Estimate]:
    """The score at every iteration; `last` is the one that is known already."""
    iterations = sorted(set(frame["iteration"].tolist()))
    scores = {
        i: last
        if i == iterations[-1] and last is not None
        else estimate(arm_of(frame[frame["iteration"] == i], recipe), bounds)[0]
        for i in iterations
    }
    return {iteration: found for iteration, found in scores.items() if found is not None}


def estimate(arm: Arm, bounds: Bounds) -> tuple[Estimate | None, str]:
    """The score of an arm, or why there is none."""
    try:
        return score(arm.all(), clusters=arm.clusters, bounds=bounds), ""
    except CannotTell as error:
        return None, str(error)


def arm_difference(arm: Arm, other: Arm, bounds: Bounds) -> Difference | None:
    """The paired difference over the runs that both have; None without any.

    Raises:
        CannotTell: the grades that are there say nothing (see `harness.stats.difference`).
    """
    runs = common_runs(arm, other)
    if not runs:
        return None
    return difference(arm.only(runs), other.only(runs), clusters=arm.clusters, bounds=bounds)


def exact_test(arm: Arm, other: Arm) -> Exact | None:
    """An exact test of two checkpoints, and the item bootstrap's interval, where one run pairs and no grade is missing.

    It stands beside the t-based p-value, which belongs to the interval, and need not agree with it.
    """
    runs = common_runs(arm, other)
    if len(runs) != 1:
        return None
    mine, theirs = (one.only(runs).mean(axis=-1)[0] for one in (arm, other))
    if any(value != value for value in (*mine.tolist(), *theirs.tolist())):
        return None
    clusters = arm.clusters if len(set(arm.clusters)) < len(arm.clusters) else None
    try:
        low, high = item_bootstrap(mine - theirs, clusters=clusters)
    except CannotTell:
        return None
    return Exact(*paired_test(mine, theirs, clusters=clusters), low, high)


def separable_pairs(arms: Sequence[Arm], bounds: Bounds) -> set[frozenset[str]]:
    """The pairs that are told apart after Holm's correction over all of them."""
    known = []
    for a, b in combinations(arms, 2):
        with suppress(CannotTell):
            found = arm_difference(a, b, bounds)
            if found is not None and found.runs >= MIN_RUNS:
                known.append((a.recipe, b.recipe, found))
    adjusted = holm([found.p for _, _, found in known])
    return {frozenset((a, b)) for (a, b, _), p in zip(known, adjusted, strict=True) if p < ALPHA}


def _shares(noises: Sequence[Noise]) -> dict[str, float | None]:
    """Shares of the summed variance of several differences; the judge's is None where one was not measured."""
    names = ("seeds", "items", "judge")
    whole = sum(noise.total for noise in noises)
    sums = {name: sum((n.shares()[name] or 0.0) * n.total for n in noises) for name in names}
    shares: dict[str, float | None] = {name: sums[name] / whole if whole > 0 else 0.0 for name in names}
    return shares | ({"judge": None} if any(noise.judge is None for noise in noises) else {})


def _scope(seeds: int, data_draws: int) -> str:
    """What a claim of this suite speaks of."""
    if seeds * max(1, data_draws) < MIN_RUNS:
        return f"these checkpoints only ({seeds} training seed{'s' if seeds != 1 else ''}; three are needed)"
    if data_draws >= MIN_RUNS:
        return f"{data_draws} data draws and their training seeds"
    return "training seeds, one data draw" if data_draws == 1 else f"training seeds; these {data_draws} data draws"
