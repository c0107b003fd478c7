"""The end table: who won, by how much, how surely, and what it took. Programs read `Comparison.to_json`."""

from __future__ import annotations

import io
import shutil
from typing import IO, TYPE_CHECKING

from harness.analysis.notes import comparison_notes, note_table, suite_notes
from harness.analysis.numbers import count, duration, number, pair, places, probability, score_text, things
from harness.analysis.result import BETTER, WORSE, ArmResult, Comparison, SuiteResult

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH = 120


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
        console.print(note_table(suite_notes(suite)))
    console.print(note_table(comparison_notes(comparison)))


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
        table.add_row("untuned", score_text(suite.untuned, suite, digits), *[""] * 6)
    return table


def _cells(arm: ArmResult, suite: SuiteResult, digits: int) -> list[str]:
    found = arm.difference
    versus = "baseline" if arm.recipe == suite.baseline else ""
    if found is not None:
        ends = pair(found.low, found.high, suite.unit, digits, signed=True)
        versus = f"{number(found.value, suite.unit, digits, signed=True)} {ends}"
    return [
        arm.recipe,
        score_text(arm.score, suite, digits),
        versus,
        probability(arm.p_holm),
        count(arm.cost.rows),
        count(arm.cost.train_tokens),
        count(arm.cost.generated_tokens),
    ]
