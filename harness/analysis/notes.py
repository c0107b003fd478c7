"""The sentences below the end table: what a score or a difference alone would hide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.analysis.aggregates import Aggregate
from harness.analysis.numbers import count, duration, number, pair, places, probability, score_text, things
from harness.analysis.result import ArmResult, Comparison, SuiteResult
from harness.analysis.subsets import FLAGGED, LEAKED
from harness.stats import Settle

if TYPE_CHECKING:
    from rich.table import Table

Notes = Iterable[tuple[str, str]]
"""Name and sentence."""
REASONS = 3
"""Reasons for dropped rows that are named per recipe; the rest is summed."""
SHOWN = 3
"""Recipes whose figures without some items are given in full, where more than one other has such figures too."""


def suite_notes(suite: SuiteResult) -> Notes:
    """What stands below the table of one suite."""
    if suite.groups:
        rule = f"   ({suite.groups_rule})" if suite.groups_rule else ""
        yield "groups", " ".join("{" + "  ".join(group) + "}" for group in suite.groups) + rule
    elif suite.groups_rule:
        yield "groups", suite.groups_rule
    if any(suite.noise.values()):
        shares = "  ".join(f"{name} {'-' if share is None else f'{share:.0%}'}" for name, share in suite.noise.items())
        yield "noise", f"{shares}   (most: {suite.dominant})"
    yield "scope", suite.scope
    yield from _beside(suite)
    if suite.missing:
        arms = [f"{arm.recipe}: {_reasons(arm.missing)}" for arm in suite.arms if arm.missing]
        yield "missing", f"{suite.missing} grades; intervals allow for the worst and the best case. {'; '.join(arms)}"
    digits = places(suite)
    exact = [
        f"{arm.recipe} {e.test} {probability(e.p)} {pair(e.low, e.high, suite.unit, digits, signed=True)}"
        for arm in suite.arms
        if (e := arm.exact) is not None
    ]
    if exact:
        what = "exact test and bootstrap on items, one checkpoint each, not corrected"
        yield "exact", f"{what}: {', '.join(exact)}"
    yield from (("note", f"{arm.recipe}: {arm.reason}") for arm in suite.arms if arm.reason)
    yield from (("note", line) for line in suite.notes)
    least = [arm.detectable for arm in suite.arms if arm.detectable is not None]
    if least:
        ends = sorted({number(one, suite.unit, digits) for one in (min(least), max(least))})
        yield (
            "power",
            f"differences from {' to '.join(ends)} on are found four times in five with these items and seeds",
        )
    settle = [f"{arm.recipe}: {settle_text(arm.settle, suite.unit)}" for arm in suite.arms if arm.settle is not None]
    if settle:
        yield "settle", "; ".join(settle)


def _beside(suite: SuiteResult) -> Notes:
    """The suite's own figures, and scores without suspect or leaked items."""
    names = dict.fromkeys(name for arm in suite.arms for name in arm.aggregates if _headline(name, suite))
    for name in names:
        yield (
            name,
            "; ".join(f"{a.recipe} {_aggregate(a.aggregates[name])}" for a in suite.arms if name in a.aggregates),
        )
    if any(arm.aggregates[name].against is not None for name in names for arm in suite.arms if name in arm.aggregates):
        why = "they are no means of items, so there is no difference item by item"
        yield "these", f"are not paired with {suite.baseline}: {why}; `vs` has ends that hold whatever the two share"
    for what, why in ((FLAGGED, "answers that look like an attack on the judge"), (LEAKED, "items seen in training")):
        affected = [arm for arm in suite.arms if what in arm.without]
        if affected:
            yield f"-{what}", f"without {why}: {'; '.join(_shown(affected, what, suite))}"


def _shown(affected: list[ArmResult], what: str, suite: SuiteResult) -> Iterator[str]:
    """Every arm where they are few; of many, those whose score moves most, and how far the others' do."""
    few = len(affected) <= SHOWN + 1
    first = affected if few else sorted(affected, key=lambda arm: -_moved(arm, what))[:SHOWN]
    yield from (_without(arm, what, suite) for arm in affected if arm in first)
    rest = [arm for arm in affected if arm not in first]
    if rest:
        left_out = [arm.without[what].left_out for arm in rest]
        furthest = max(_moved(arm, what) for arm in rest)
        moves = "have nothing left" if math.isinf(furthest) else f"move by {number(furthest, suite.unit, 3)} at most"
        yield f"{len(rest)} other recipes {moves} ({min(left_out):,} to {max(left_out):,} left out; see --json)"


def _moved(arm: ArmResult, what: str) -> float:
    """How far a score is from the one without those items; an arm that has no score left comes first."""
    left = arm.without[what].score
    return abs(left.value - arm.score.value) if left is not None and arm.score is not None else math.inf


def _headline(name: str, suite: SuiteResult) -> bool:
    """Whether a figure is shown for people: parts (by category or turn) and counts are in `--json` only."""
    sensitive = name.startswith(("position", "length:", "style"))
    return name != suite.metric and not name.startswith("n_") and (":" not in name or sensitive)


def _aggregate(found: Aggregate) -> str:
    text = f"{found.value:.4g}"
    if found.low is not None and found.high is not None:
        text += f" [{found.low:.4g} {found.high:.4g}]"
    counts = [f"n {found.n:,}"] if found.n is not None else ["no interval"]
    counts += [f"{found.missing:,} missing"] if found.missing else []
    if found.against is not None:
        text += f" vs {found.against.value:+.4g} [{found.against.low:+.4g} {found.against.high:+.4g}]"
    return f"{text} ({', '.join(counts)})"


def _without(arm: ArmResult, what: str, suite: SuiteResult) -> str:
    found = arm.without.get(what)
    if found is None:
        return ""
    digits = places(suite)
    kinds = f": {_reasons(arm.flags)}" if what == FLAGGED and arm.flags else ""
    left = found.score
    value = "nothing is left" if left is None else f"{score_text(left, suite, digits)} n {left.n:,}"
    line = f"{arm.recipe} {value} ({found.left_out:,} left out{kinds})"
    if found.difference is not None:
        d = found.difference
        ends = pair(d.low, d.high, suite.unit, digits, signed=True)
        line += f", vs {suite.baseline} {number(d.value, suite.unit, digits, signed=True)} {ends} n {d.n:,}"
    return line


def settle_text(plan: Settle, unit: str) -> str:
    """What would settle an open comparison, in the unit of its metric."""
    if plan.detectable is None:
        return "no variation was seen, so power is unknown"
    if plan.more_runs is not None and plan.more_runs > 0:
        time = f", about {duration(plan.seconds)}" if plan.seconds is not None else ""
        return f"{things(plan.more_runs, 'more seed')}{time}"
    if plan.more_items is not None and plan.more_items > 0:
        return f"{plan.more_items:,} more items (seeds alone would not do)"
    if plan.more_runs is None and plan.more_items is None:
        least = number(plan.detectable, unit, 3)
        return f"too small a difference; this design cannot see less than about {least}"
    return "one more seed or item may do"


def comparison_notes(comparison: Comparison) -> Notes:
    """What stands below all tables."""
    arms = {arm.recipe: arm for suite in comparison.suites for arm in suite.arms}
    dropped = [f"{name}: {_reasons(arm.cost.dropped)}" for name, arm in arms.items() if arm.cost.dropped]
    missing = sum(suite.missing for suite in comparison.suites)
    yield "dropped", "; ".join([*dropped, f"{missing} grades missing"])
    judge = comparison.spent.get("judge", 0)
    roles = [f"{role} {count(n)} tokens" for role, n in comparison.spent.items() if role != "judge"]
    yield "spent", ", ".join([*roles, f"judge {count(judge)}"])
    for recipe, changes in comparison.overrides.items():
        yield "config", f"{recipe}: " + ", ".join(f"{name} {value}" for name, value in changes.items())
    if comparison.equalised:
        parts = [f"{int(n):,} {name} per cell" for name, n in comparison.equalised.items()]
        yield "budget", f"equal for all: {', '.join(parts)}, all its trainings together"
    if comparison.family > 1:
        yield "p", f"two-sided, Holm over {comparison.family} differences; intervals are 95 % each, not corrected"
    for label, why in comparison.failed_stages.items():
        yield "failed", f"{label}: {why}"
    for one in comparison.leaks:
        what = (
            f"{one.affected:,} of {things(one.items, 'item')} of {one.suite} are in {things(one.rows, 'training row')}"
        )
        yield "leaks", f"{what} (policy {one.policy})"
    if comparison.unchecked:
        checks = things(comparison.unchecked, "check")
        yield "leaks", f"{checks} of training rows not finished: what else leaked is not known"
    for line in comparison.warnings:
        yield "note", line
    yield "next", "  |  ".join(comparison.next_commands)


def _reasons(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    parts = [f"{n:,} {reason}" for reason, n in ordered[:REASONS]]
    rest = sum(n for _, n in ordered[REASONS:])
    return ", ".join([*parts, *([f"{rest:,} for other reasons"] if rest else [])])


def note_table(notes: Notes) -> Table:
    """Names and sentences in two columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(overflow="fold")
    for name, text in notes:
        table.add_row(Text(name, style="bold"), Text(text))
    return table
