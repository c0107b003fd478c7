"""The gate: did a change make a recipe worse by more than a margin? Passed 0, failed 1, cannot tell 3.

It fails closed. Nothing measured, too few paired seeds, unfinished stages, another version of the suite or its judge,
other items, a program judging a real suite: each is "cannot tell" with its reason, never a pass. It says how often it
would err with the noise it saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.analysis import baseline as files
from harness.analysis.arms import aligned
from harness.analysis.baseline import Side
from harness.analysis.gate_pairs import Pair, arms_named, file_pairs, own_pairs, read_margins
from harness.analysis.gate_result import Check, GateResult, Status
from harness.analysis.grid import Grid, SuiteFacts, read_grid
from harness.analysis.items import read_items
from harness.analysis.numbers import things
from harness.analysis.pairs import arm_difference
from harness.analysis.sentinels import drifted, judge_name, refusal, unknown
from harness.blocks.kinds import Metric
from harness.errors import CannotTell
from harness.stats import MIN_RUNS, error_rates, non_inferior


def write_baseline(home: Path, experiment: str, recipe: str | None, path: Path, split: str = "test") -> None:
    """Writes the baseline file of an experiment: of one recipe, or of all.

    Raises:
        CannotTell: the experiment was never run or is not finished.
        UserError: no such recipe, or the file cannot be written.
    """
    grid = read_grid(home, experiment)
    sides = files.sides_of(grid, read_items(grid, split), split)
    if recipe is not None:
        sides = {name: sides[name] for name in arms_named(sides, recipe, experiment)}
    files.save(path, grid, sides, split)


def gate_experiment(
    home: Path,
    experiment: str,
    *,
    recipe: str | None = None,
    baseline: Path | None = None,
    margins: Mapping[str, float] | None = None,
) -> GateResult:
    """Compares an experiment with a baseline file, or with its own baseline recipe.

    Args:
        home: the folder with store and runs.
        experiment: the candidate's experiment.
        recipe: the candidate (None: every arm of the file; without a file the only recipe besides the baseline).
        baseline: a file that `write_baseline` wrote (None: what the experiment's `gate:` names, else its baseline).
        margins: metric, or `suite/metric`, to the loss that is still acceptable (None: the experiment's `gate:`).

    Raises:
        UserError: no margin, one for a metric that no suite has, an unknown recipe, a file that is no baseline.
    """
    try:
        grid = read_grid(home, experiment)
    except CannotTell as error:
        return _undecided(experiment, str(baseline or "nothing"), str(error))
    own = grid.gate or {}
    wanted = read_margins(grid, margins if margins is not None else own.get("margin") or {})
    named = baseline or own.get("baseline")
    if named is not None and not (baseline is None and named in grid.recipes):
        split, reference = files.load(Path(named))
        against = str(named)
    else:
        split, reference, against = "test", None, str(named or grid.baseline or "")
    try:
        sides = files.sides_of(grid, read_items(grid, split), split)
    except CannotTell as error:
        return _undecided(experiment, against, str(error))
    pairs = own_pairs(grid, sides, recipe, against) if reference is None else file_pairs(grid, sides, reference, recipe)
    return _judge(grid, against, pairs, wanted)


def _judge(grid: Grid, against: str, pairs: list[Pair], margins: Mapping[tuple[str, str], float]) -> GateResult:
    checks, warnings = [], []
    for name, mine, other, theirs in pairs:
        for (suite, metric), margin in margins.items():
            facts = grid.suites[suite]
            checks.append(_check(facts, facts.metric(metric), margin, name, mine.get(suite), other, theirs.get(suite)))
            warnings += _engine_warning(name, mine.get(suite), other, theirs.get(suite))
            warnings += _drift_warning(facts, mine.get(suite), theirs.get(suite))
    free = [suite for suite in grid.suites if suite not in {s for s, _ in margins}]
    warnings += [f"{suite} has no margin and was not gated" for suite in free]
    states = {check.status for check in checks}
    status: Status = "failed" if "failed" in states else "passed" if states == {"passed"} else "cannot tell"
    return GateResult(
        experiment=grid.experiment,
        against=against,
        status=status,
        checks=tuple(checks),
        reasons=() if checks else ("nothing was compared",),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _check(
    facts: SuiteFacts, metric: Metric, margin: float, name: str, mine: Side | None, other: str, theirs: Side | None
) -> Check:
    about: dict[str, Any] = {
        "arm": name,
        "baseline": other,
        "suite": facts.name,
        "metric": metric.name,
        "unit": metric.unit,
        "margin": margin,
    }
    reason = _obstacle(facts, metric, mine, theirs)
    if reason or mine is None or theirs is None:
        return Check(**about, status="cannot tell", reason=reason or "nothing was measured")
    theirs_arm = theirs.metrics[metric.name]
    try:
        found = arm_difference(
            aligned(mine.metrics[metric.name], theirs_arm.ids, "the baseline"), theirs_arm, metric.bounds
        )
    except CannotTell as error:
        return Check(**about, status="cannot tell", reason=str(error))
    if found is None or found.runs < MIN_RUNS:
        runs = found.runs if found is not None else 0
        why = (
            f"{things(runs, 'training seed')} in both; a verdict needs {MIN_RUNS} (fewer show a checkpoint difference)"
        )
        return Check(**about, status="cannot tell", difference=found, reason=why)
    value, low, high = found.value, found.low, found.high
    if not metric.higher_is_better:
        value, low, high = -value, -high, -low
    status = non_inferior(value, low, high, margin)
    why = "the interval reaches to both sides of the margin" if status == "cannot tell" else ""
    rates = error_rates(found.noise, margin) if found.noise.total > 0 else None
    return Check(**about, status=status, difference=found, rates=rates, reason=why)


def _obstacle(facts: SuiteFacts, metric: Metric, mine: Side | None, theirs: Side | None) -> str:
    """Why two sides may not be compared, or nothing."""
    if mine is None:
        return "the candidate has no grades for it"
    if theirs is None:
        return "the baseline has no grades for it"
    if mine.unfinished or theirs.unfinished:
        return f"{things(max(mine.unfinished, theirs.unfinished), 'unfinished stage')}"
    if facts.stand_in and facts.real:
        return f"a program judged a real suite ({facts.label}), which can never pass a gate"
    one, other = _fields(mine.identity), _fields(theirs.identity)
    unlike = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    if unlike:
        parts = [f"{key} is {one.get(key)}, in the baseline {other.get(key)}" for key in unlike]
        return f"unlike suites are not compared: {'; '.join(parts)}"
    drift = drifted(mine.sentinels, theirs.sentinels)
    if drift is not None:
        return refusal(facts, drift)
    absent = [who for who, side in (("candidate", mine), ("baseline", theirs)) if metric.name not in side.metrics]
    return f"the {absent[0]} has no {metric.name}" if absent else ""


def _fields(identity: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """An identity field by field: `judge.options.temperature` rather than a mapping in a mapping."""
    fields: dict[str, Any] = {}
    for name, value in identity.items():
        fields |= _fields(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return fields


def _engine_warning(name: str, mine: Side | None, other: str, theirs: Side | None) -> list[str]:
    if mine is None or theirs is None or mine.engines == theirs.engines:
        return []
    text = [", ".join(" ".join(pair) for pair in sorted(side.engines)) for side in (mine, theirs)]
    return [f"{name} answered with {text[0]}, the baseline with {text[1]}: engine and dtype change scores a little"]


def _drift_warning(facts: SuiteFacts, mine: Side | None, theirs: Side | None) -> list[str]:
    if mine is None or theirs is None or not unknown(mine.sentinels, theirs.sentinels):
        return []
    why = "it was made in another home, where other answers were frozen"
    return [f"{facts.name}: whether the judge {judge_name(facts)} drifted since the baseline is not known: {why}"]


def _undecided(experiment: str, against: str, reason: str) -> GateResult:
    return GateResult(experiment=experiment, against=against, status="cannot tell", checks=(), reasons=(reason,))


__all__ = ["Check", "GateResult", "Status", "gate_experiment", "write_baseline"]
