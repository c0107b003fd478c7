"""The end table: who won, by how much, how surely, and what it took. Programs read `Comparison.to_json`."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping
from typing import IO, TYPE_CHECKING

from harness.analysis.aggregates import Aggregate
from harness.analysis.numbers import count, duration, number, pair, places, probability, things
from harness.analysis.result import BETTER, WORSE, ArmResult, Comparison, SuiteResult
from harness.analysis.subsets import FLAGGED, LEAKED
from harness.stats import Estimate

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH = 120
REASONS = 3
"""Reasons for dropped rows that are named per recipe; the rest is summed."""


def print_comparison(
    comparison: Comparison, *, wall: float | None = None, failed: int | None = None, file: IO[str] | None = None
) -> None:
    """Prints the end table.

    Args:
        comparison: what to show.
        wall: seconds that the run took, where one just ended.
        failed: stages that failed (None: as the journal says).
        file: where to (None: standard output). Colour only on a terminal.
    """
    from rich.console import Console

    terminal = file is None or file.isatty()
    width = max(100, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)) if terminal else WIDTH
    console = Console(file=file, width=width, highlight=False, soft_wrap=False)
    console.print(_heading(comparison, wall, len(comparison.failed_stages) if failed is None else failed))
    for suite in comparison.suites:
        console.print(_subheading(comparison, suite))
        console.print(_table(suite))
        console.print(_note_table(_suite_notes(suite)))
    console.print(_note_table(_notes(comparison)))


def comparison_text(comparison: Comparison, *, wall: float | None = None, failed: int | None = None) -> str:
    """The end table as plain text, at most 120 columns wide."""
    out = io.StringIO()
    print_comparison(comparison, wall=wall, failed=failed, file=out)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _heading(comparison: Comparison, wall: float | None, failed: int) -> Text:
    from rich.text import Text

    axes = [(len(comparison.recipes), "recipe"), (len(comparison.seeds), "seed"), (comparison.iterations, "iteration")]
    if len(comparison.students) > 1:
        axes.insert(0, (len(comparison.students), "student"))
    if len(comparison.data_seeds) > 1:
        axes.append((len(comparison.data_seeds), "data draw"))
    grid = " × ".join(things(n, name) for n, name in axes)
    took = [duration(wall)] if wall is not None else []
    return Text("   ".join([comparison.experiment, grid, *took, things(failed, "failed stage")]), style="bold")


def _subheading(comparison: Comparison, suite: SuiteResult) -> Text:
    from rich.text import Text

    who = [f"student {suite.student}"] if len(comparison.students) > 1 else []
    judge = [suite.label] if suite.label else []
    size = f"{things(suite.items, 'item')}, {suite.missing:,} grades missing"
    parts = [f"{suite.split} split", f"{suite.suite} v{suite.version}", size, *who, *judge]
    return Text(", ".join(parts), style="bold red" if suite.stand_in and suite.real else "")


def _table(suite: SuiteResult) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("recipe", overflow="fold")
    for name in (suite.metric, f"vs {suite.baseline}"):
        table.add_column(name, no_wrap=True)
    for name in ("p Holm", "rows", "train tok", "gen tok"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    digits = places(suite)
    for arm in suite.arms:
        style = {BETTER: "green", WORSE: "red"}.get(arm.verdict, "")
        table.add_row(*(Text(cell) for cell in _cells(arm, suite, digits)), Text(arm.words, style=style))
    if suite.untuned is not None:
        table.add_row("untuned", _score(suite.untuned, suite, digits), *[""] * 6)
    return table


def _cells(arm: ArmResult, suite: SuiteResult, digits: int) -> list[str]:
    found = arm.difference
    versus = "baseline" if arm.recipe == suite.baseline else ""
    if found is not None:
        ends = pair(found.low, found.high, suite.unit, digits, signed=True)
        versus = f"{number(found.value, suite.unit, digits, signed=True)} {ends}"
    return [
        arm.recipe,
        _score(arm.score, suite, digits),
        versus,
        probability(arm.p_holm),
        count(arm.cost.rows),
        count(arm.cost.train_tokens),
        count(arm.cost.generated_tokens),
    ]


def _score(score: Estimate | None, suite: SuiteResult, digits: int) -> str:
    if score is None:
        return "-"
    missing = f" ({score.missing} missing)" if score.missing else ""
    return f"{number(score.value, suite.unit, digits)} {pair(score.low, score.high, suite.unit, digits)}{missing}"


def _suite_notes(suite: SuiteResult) -> Iterable[tuple[str, str]]:
    if suite.groups:
        rule = f"   ({suite.groups_rule})" if suite.groups_rule else ""
        yield "groups", " ".join("{" + "  ".join(group) + "}" for group in suite.groups) + rule
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
    settle = [line for arm in suite.arms if (line := _settle(arm, suite))]
    if settle:
        yield "settle", "; ".join(settle)


def _beside(suite: SuiteResult) -> Iterable[tuple[str, str]]:
    """The suite's own figures, and scores without suspect or leaked items."""
    names = dict.fromkeys(name for arm in suite.arms for name in arm.aggregates if _headline(name, suite))
    for name in names:
        yield (
            name,
            "; ".join(f"{a.recipe} {_aggregate(a.aggregates[name])}" for a in suite.arms if name in a.aggregates),
        )
    for what, why in ((FLAGGED, "answers that look like an attack on the judge"), (LEAKED, "items seen in training")):
        lines = [line for arm in suite.arms if (line := _without(arm, what, suite))]
        if lines:
            yield f"-{what}", f"without {why}: {'; '.join(lines)}"


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
    return f"{text} ({', '.join(counts)})"


def _without(arm: ArmResult, what: str, suite: SuiteResult) -> str:
    found = arm.without.get(what)
    if found is None:
        return ""
    digits = places(suite)
    kinds = f": {_reasons(arm.flags)}" if what == FLAGGED and arm.flags else ""
    value = (
        f"{_score(found.score, suite, digits)} n {found.score.n:,}" if found.score is not None else "nothing is left"
    )
    line = f"{arm.recipe} {value} ({found.left_out:,} left out{kinds})"
    if found.difference is not None:
        d = found.difference
        ends = pair(d.low, d.high, suite.unit, digits, signed=True)
        line += f", vs {suite.baseline} {number(d.value, suite.unit, digits, signed=True)} {ends} n {d.n:,}"
    return line


def _settle(arm: ArmResult, suite: SuiteResult) -> str:
    plan = arm.settle
    if plan is None:
        return ""
    if plan.detectable is None:
        return f"{arm.recipe}: no variation was seen, so power is unknown"
    if plan.more_runs is not None and plan.more_runs > 0:
        time = f", about {duration(plan.seconds)}" if plan.seconds is not None else ""
        return f"{arm.recipe}: {things(plan.more_runs, 'more seed')}{time}"
    if plan.more_items is not None and plan.more_items > 0:
        return f"{arm.recipe}: {plan.more_items:,} more items (seeds alone would not do)"
    if plan.more_runs is None and plan.more_items is None:
        least = number(plan.detectable, suite.unit, 3)
        return f"{arm.recipe}: too small a difference; this design cannot see less than about {least}"
    return f"{arm.recipe}: one more seed or item may do"


def _notes(comparison: Comparison) -> Iterable[tuple[str, str]]:
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


def _note_table(notes: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(overflow="fold")
    for name, text in notes:
        table.add_row(Text(name, style="bold"), Text(text))
    return table
