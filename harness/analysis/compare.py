"""Which recipe is better, and is the difference real? From an experiment's items to a `Comparison`.

Every recipe is compared with the baseline on the same items and the same training seeds; p-values are corrected by Holm
over all differences that the comparison prints. What may not be compared (other items, another version of the suite)
is refused with the name of what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis import costs, leaks, sentinels
from harness.analysis.arms import Arm
from harness.analysis.grid import Grid, read_grid
from harness.analysis.items import read_items
from harness.analysis.numbers import things
from harness.analysis.pairs import separable_pairs
from harness.analysis.result import (
    BASELINE,
    BETTER,
    CANNOT_TELL,
    CHECKPOINT,
    WORSE,
    ArmResult,
    Comparison,
    SuiteResult,
)
from harness.analysis.suites import View, compare_suite
from harness.errors import CannotTell, UserError
from harness.stats import ALPHA, MIN_RUNS, holm, settle, tie_groups
from harness.stats.groups import MOST
from harness.store import journal

if TYPE_CHECKING:
    import pandas as pd

BUDGET_SLACK = 0.05
"""Trainings end with a whole step, so a budget is met nearly; beyond this share the reader is told."""
NOTEWORTHY = 2.0
"""From this multiple of the baseline's trained tokens on, the verdict says so."""


def compare_experiment(home: Path, experiment: str, split: str = "test") -> Comparison:
    """The comparison of an experiment's last run, from its grid file and store.

    Raises:
        CannotTell: it was never run, or nothing is graded yet, or arms were scored on different items.
    """
    grid = read_grid(home, experiment)
    return compare(read_items(grid, split), grid, split=split)


def compare(
    frame: pd.DataFrame,
    grid: Grid,
    *,
    baseline: str | None = None,
    metrics: Mapping[str, str] | None = None,
    split: str = "test",
) -> Comparison:
    """The comparison of the recipes of a grid.

    Args:
        frame: items as `harness.analysis.items.items` gives them.
        grid: the experiment that they come from.
        baseline: recipe to compare with (None: the experiment's, else its first).
        metrics: suite to metric, where not the headline.
        split: of the items.

    Raises:
        CannotTell: no grades, or arms that were scored on different items.
        UserError: the baseline is no recipe of the experiment.
    """
    if frame.empty or not (frame["iteration"] > 0).any():
        raise CannotTell(
            f"{grid.experiment}: no recipe has a finished evaluation on the {split} split yet. "
            f"`loopbench status {grid.experiment}` says what is left"
        )
    base = _baseline(grid, baseline)
    suites, arms = [], []
    drifts, affected = _drifts(grid, split), leaks.read_affected(grid)
    parts = dict(iter(frame.groupby(["student", "suite", "metric"], sort=False)))
    for student in grid.students:
        for facts in grid.suites.values():
            metric = facts.metric((metrics or {}).get(facts.name))
            part = parts.get((student, facts.name, metric.name))
            if part is None or facts.name in drifts:
                continue
            view = View(grid=grid, facts=facts, metric=metric, student=student, base=base, split=split)
            result, values = compare_suite(part, view, affected)
            suites.append(result)
            arms.append(values)
    if drifts and not suites:
        raise CannotTell(" ".join(drifts.values()))
    done = _with_verdicts(suites, arms, base)
    return _comparison(grid, done, base, split, named=baseline or grid.baseline)


def _drifts(grid: Grid, split: str) -> dict[str, str]:
    """Suite to the paragraph that refuses its comparison, where its judge changed between the grades of its arms."""
    found = {name: sentinels.drifted(sentinels.readings(grid, name, split)) for name in grid.suites}
    return {name: sentinels.refusal(grid.suites[name], drift) for name, drift in found.items() if drift is not None}


def _baseline(grid: Grid, wanted: str | None) -> str:
    name = wanted or grid.baseline or grid.recipes[0]
    if name not in grid.recipes:
        raise UserError(
            f"the baseline {name!r} is no recipe of {grid.experiment}; its recipes: {', '.join(grid.recipes)}"
        )
    return name


def _with_verdicts(
    suites: list[SuiteResult], arms: list[Mapping[str, Arm]], base: str
) -> tuple[tuple[SuiteResult, ...], int]:
    """Holm over all differences, then verdicts, ties and what would settle the open ones."""
    found = [(s, a) for s, suite in enumerate(suites) for a, arm in enumerate(suite.arms) if arm.difference is not None]
    raw = [difference.p for s, a in found if (difference := suites[s].arms[a].difference) is not None]
    adjusted = dict(zip(found, holm(raw), strict=True))
    results = []
    for s, suite in enumerate(suites):
        seconds = next((a.cost.seconds_per_seed for a in suite.arms if a.recipe == base), None)
        judged = tuple(
            _judged(arm, adjusted.get((s, a)), suite.higher_is_better, seconds) for a, arm in enumerate(suite.arms)
        )
        groups, others = _groups(suite, judged, arms[s], base)
        rule = (
            f"pairs with {base} as in p Holm; the {others} others by a Holm correction of their own" if others else ""
        )
        if others and not groups:
            rule = f"more than {MOST}, and they overlap: too many to be read"
        results.append(replace(suite, arms=judged, groups=groups, groups_rule=rule))
    return tuple(results), len(found)


def _judged(arm: ArmResult, p: float | None, higher: bool, base_seconds: float | None) -> ArmResult:
    found = arm.difference
    if found is None or p is None:
        return arm
    if not found.random_runs:
        verdict = CHECKPOINT
    elif p < ALPHA:
        verdict = BETTER if (found.value > 0) == higher else WORSE
    else:
        verdict = CANNOT_TELL
    ratio = arm.token_ratio
    note = f"{ratio:.0f}x tokens" if ratio is not None and ratio >= NOTEWORTHY else ""
    seconds = None
    if arm.cost.seconds_per_seed is not None and base_seconds is not None:
        seconds = arm.cost.seconds_per_seed + base_seconds
    open_ = verdict in (CANNOT_TELL, CHECKPOINT)
    return replace(arm, p_holm=p, verdict=verdict, note=note, settle=settle(found, seconds) if open_ else None)


def _groups(
    suite: SuiteResult, judged: tuple[ArmResult, ...], arms: Mapping[str, Arm], base: str
) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Ties, and how many pairs are without the baseline: these go by Holm over themselves, the rest by the verdicts."""
    ranked = [arm.recipe for arm in judged if arm.score is not None]
    runs = [arm.difference.runs for arm in judged if arm.difference is not None]
    if len(ranked) < 2 or not runs or min(runs) < MIN_RUNS:
        return (), 0
    apart = {frozenset((arm.recipe, base)) for arm in judged if arm.verdict in (BETTER, WORSE)}
    others = [arms[name] for name in ranked if name != base]
    return tie_groups(ranked, apart | separable_pairs(others, suite.bounds)), comb(len(others), 2)


def _comparison(
    grid: Grid, done: tuple[tuple[SuiteResult, ...], int], base: str, split: str, named: str | None
) -> Comparison:
    suites, family = done
    return Comparison(
        experiment=grid.experiment,
        split=split,
        recipes=grid.recipes,
        students=grid.students,
        seeds=tuple(sorted({cell.seed for cell in grid.cells})),
        data_seeds=tuple(sorted({cell.data_seed for cell in grid.cells})),
        iterations=max(cell.last.iteration for cell in grid.cells),
        suites=suites,
        family=family,
        spent=costs.spent(grid),
        overrides=costs.overrides(grid),
        equalised=grid.resolved.get("budget") or {},
        warnings=_warnings(grid, suites, base, named, split),
        failed_stages=costs.failed_stages(grid, journal.read(grid.home.journal_file(grid.experiment))),
        next_commands=_next(grid, suites),
        leaks=tuple(one for one in leaks.found(grid) if one.split == split),
        unchecked=leaks.unchecked(grid),
    )


def _warnings(grid: Grid, suites: tuple[SuiteResult, ...], base: str, named: str | None, split: str) -> tuple[str, ...]:
    lines = []
    if named is None and len(grid.recipes) > 1:
        lines.append(f"no baseline is set: compared with {base}, the first recipe")
    lines += _drifts(grid, split).values()
    for student in grid.students:
        lines += _engine_warnings(grid, base, student)
    lines += _budget_warnings(grid, suites)
    for suite in suites:
        if suite.stand_in and suite.real:
            lines.append(
                f"{suite.suite} was judged by a program ({suite.label}): its figures say nothing about quality"
            )
        for arm in suite.arms:
            if arm.cost.unfinished:
                lines.append(f"{arm.recipe}: {things(arm.cost.unfinished, 'unfinished stage')}, so cells are left out")
            if arm.difference is not None and arm.score is not None and arm.difference.runs < arm.score.runs:
                lines.append(
                    f"{arm.recipe} on {suite.suite}: only {things(arm.difference.runs, 'seed')} pair with the baseline"
                )
    return tuple(dict.fromkeys(lines))


def _budget_warnings(grid: Grid, suites: tuple[SuiteResult, ...]) -> list[str]:
    """Arms whose trained tokens are not what `budget` asked for."""
    wanted = (grid.resolved.get("budget") or {}).get("train_tokens")
    if not wanted:
        return []
    arms = {arm.recipe: arm.cost.train_tokens for suite in suites for arm in suite.arms}
    return [
        f"{recipe} trained {tokens:,} tokens per cell, the budget is {int(wanted):,}: the arms are not equal"
        for recipe, tokens in arms.items()
        if abs(tokens - wanted) > BUDGET_SLACK * wanted
    ]


def _engine_warnings(grid: Grid, base: str, student: str) -> list[str]:
    usual = costs.engines(grid, base, student)
    named = {recipe: costs.engines(grid, recipe, student) for recipe in grid.recipes}
    text = ", ".join(" ".join(pair) for pair in sorted(usual))
    return [
        f"{recipe} answered with {', '.join(' '.join(pair) for pair in sorted(used))}, {base} with {text}: "
        "engine and dtype change scores a little"
        for recipe, used in named.items()
        if used != usual
    ]


def _next(grid: Grid, suites: tuple[SuiteResult, ...]) -> tuple[str, ...]:
    best = next((a for suite in suites for a in suite.arms if a.score is not None and a.verdict != BASELINE), None)
    commands = ["loopbench ui", f"loopbench compare {grid.experiment} --json"]
    return (*commands, f"loopbench export {grid.experiment}/{best.recipe}") if best is not None else tuple(commands)
