"""One suite of a comparison: scores, differences to the baseline, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.analysis.aggregates import beside_baseline, of_arm
from harness.analysis.arms import Arm, aligned, arm_of, draws
from harness.analysis.costs import ArmCost, arm_cost
from harness.analysis.grid import UNTUNED, Grid, SuiteFacts
from harness.analysis.pairs import arm_difference, estimate, exact_test
from harness.analysis.result import BASELINE, CANNOT_TELL, NO_DATA, ArmResult, SuiteResult
from harness.analysis.subsets import affected_items, reasons, without
from harness.blocks.kinds import Metric
from harness.errors import CannotTell
from harness.stats import MIN_RUNS, Difference, Estimate, detectable
from harness.stats.estimate import Noise

if TYPE_CHECKING:
    import pandas as pd


Parts = Mapping[str, "pd.DataFrame"]
"""Recipe to its items."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What of an experiment is looked at. `student` is a role, `base` the baseline recipe."""

    grid: Grid
    facts: SuiteFacts
    metric: Metric
    student: str
    base: str
    split: str

    def last(self, recipe: str) -> int:
        """The last iteration of a recipe."""
        return max(cell.last.iteration for cell in self.grid.cells_of(recipe, self.student))

    @property
    def steady(self) -> bool:
        """True where a program judges: it judges alike every time."""
        return self.facts.judge is None or self.facts.stand_in


def compare_suite(frame: pd.DataFrame, view: View, affected: pd.DataFrame) -> tuple[SuiteResult, Mapping[str, Arm]]:
    """The result of one suite without verdicts (they need all suites), and the arms that have grades.

    Args:
        frame: items of this suite, metric and student, of every recipe and iteration.
        view: what is looked at.
        affected: items that were in training rows (see `harness.analysis.leaks`).

    Raises:
        CannotTell: two arms were scored on different items.
    """
    parts: Parts = {str(recipe): part for recipe, part in frame.groupby("recipe", sort=False)}
    arms = _arms(parts, view)
    cost = {recipe: arm_cost(view.grid, recipe, view.student) for recipe in view.grid.recipes}
    results = [_arm_result(parts.get(recipe, frame[:0]), view, recipe, arms, cost) for recipe in view.grid.recipes]
    results = _with_company(parts, view, results, arms, affected)
    sign = 1.0 if view.metric.higher_is_better else -1.0
    results.sort(key=lambda a: (a.score is None, 0.0 if a.score is None else -sign * a.score.value))
    return _suite_result(parts.get(UNTUNED), view, results, arms), arms


def _suite_result(
    untuned: pd.DataFrame | None, view: View, results: Sequence[ArmResult], arms: Mapping[str, Arm]
) -> SuiteResult:
    facts, metric = view.facts, view.metric
    used = [run for arm in arms.values() for run in arm.runs]
    return SuiteResult(
        suite=facts.name,
        split=view.split,
        version=facts.version,
        label=facts.label,
        stand_in=facts.stand_in,
        real=facts.real,
        metric=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        student=view.student,
        items=len(next(iter(arms.values())).ids) if arms else 0,
        baseline=view.base,
        arms=tuple(results),
        untuned=estimate(arm_of(untuned, UNTUNED), metric.bounds)[0] if untuned is not None else None,
        groups=(),
        noise=_shares([a.difference.noise for a in results if a.difference is not None]),
        scope=_scope(len({seed for _, seed in used}), draws(tuple(used))),
        bounds=metric.bounds,
        notes=facts.notes,
    )


def _with_company(
    parts: Parts,
    view: View,
    results: Sequence[ArmResult],
    arms: Mapping[str, Arm],
    affected: pd.DataFrame,
) -> list[ArmResult]:
    """The results with what stands beside a score: the suite's own figures, flags, and figures without some items."""
    name, split, student = view.facts.name, view.split, view.student
    leaked = affected_items(affected, view.grid, student, name, split)
    beside = without(arms, leaked, view.base, view.metric.bounds)
    own = {recipe: of_arm(view.grid, recipe, student, name, split, arm) for recipe, arm in arms.items()}
    others = {recipe: beside_baseline(found, own.get(view.base, {})) for recipe, found in own.items()}
    return [
        replace(
            result,
            aggregates=own[result.recipe] if result.recipe == view.base else others[result.recipe],
            flags=_flags(parts[result.recipe], view, arms[result.recipe]),
            without=beside[result.recipe],
        )
        if result.recipe in arms
        else result
        for result in results
    ]


def _arms(parts: Parts, view: View) -> dict[str, Arm]:
    """Every recipe's arm at its last iteration, columns aligned; recipes without grades are left out."""
    last = {r: part[part["iteration"] == view.last(r)] for r in view.grid.recipes if (part := parts.get(r)) is not None}
    found = {recipe: arm_of(part, recipe) for recipe, part in last.items() if not part.empty}
    first = found.get(view.base) or next(iter(found.values()), None)
    return {recipe: aligned(arm, first.ids, first.recipe) for recipe, arm in found.items()} if first else {}


def _arm_result(
    mine: pd.DataFrame, view: View, recipe: str, arms: Mapping[str, Arm], cost: Mapping[str, ArmCost]
) -> ArmResult:
    arm, other = arms.get(recipe), arms.get(view.base)
    value, reason = estimate(arm, view.metric.bounds) if arm is not None else (None, "")
    found, exact = None, None
    if recipe != view.base and arm is not None and other is not None:
        found, why = _difference(arm, other, view)
        reason, exact = reason or why, exact_test(arm, other)
    tokens = cost[view.base].train_tokens
    return ArmResult(
        recipe=recipe,
        score=value,
        difference=found,
        p_holm=None,
        test=None if found is None else "t over items and seeds" if found.random_runs else "t over items",
        verdict=BASELINE if recipe == view.base and arm is not None else CANNOT_TELL if reason else NO_DATA,
        note="",
        history=_history(mine, recipe, view.metric.bounds, value),
        cost=cost[recipe],
        token_ratio=cost[recipe].train_tokens / tokens if tokens else None,
        missing=_absent(mine),
        exact=exact,
        reason=reason,
        detectable=detectable(found.noise) if found is not None and found.noise.total > 0 else None,
    )


def _difference(arm: Arm, other: Arm, view: View) -> tuple[Difference | None, str]:
    """The difference, or why there is none; where a program judges, its noise is known to be nothing."""
    try:
        found = arm_difference(arm, other, view.metric.bounds)
    except CannotTell as error:
        return None, str(error)
    if found is not None and view.steady and found.noise.judge is None:
        found = replace(found, noise=replace(found.noise, judge=0.0))
    return found, ""


def _absent(frame: pd.DataFrame) -> dict[str, int]:
    """Grades that are missing, by reason. A repeat that could not be read leaves the grade to the others."""
    gone = frame[frame["value"].isna() & (frame["repeat"] == 0)]
    if (frame["repeat"] > 0).any():
        gone = gone[gone["missing"].notna()]
    return {str(reason): int(n) for reason, n in gone["missing"].fillna("no reason given").value_counts().items()}


def _flags(mine: pd.DataFrame, view: View, arm: Arm) -> dict[str, int]:
    """Suspect answers of the last iteration, each once, by what makes them so."""
    if not arm.flagged:
        return {}
    own = mine[(mine["iteration"] == view.last(arm.recipe)) & (mine["flag"] != "")]
    return reasons(own.drop_duplicates(["data_seed", "seed", "item"])["flag"])


def _history(
    frame: pd.DataFrame, recipe: str, bounds: tuple[float, float] | None, last: Estimate | None
) -> dict[int, Estimate]:
    """The score at every iteration; `last` is the one that is known already."""
    iterations = sorted(set(frame["iteration"].tolist()))
    scores = {
        i: last
        if i == iterations[-1] and last is not None
        else estimate(arm_of(frame[frame["iteration"] == i], recipe), bounds)[0]
        for i in iterations
    }
    return {iteration: found for iteration, found in scores.items() if found is not None}


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
