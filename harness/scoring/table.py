"""A scoring as text: every number with its interval, n and what is missing."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from harness.analysis.notes import note_table
from harness.analysis.numbers import probability, things
from harness.scoring.result import Difference, Figure, Scoring, SourceResult

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 160
"""Of plain text: nothing is folded where a program or a file reads it."""
ANSWERS = "answers are compared here, not training recipes: nothing is said about other trainings"


def print_scoring(scoring: Scoring, file: IO[str]) -> None:
    """Prints a scoring; colour only on a terminal."""
    from rich.console import Console

    console = Console(file=file, width=None if file.isatty() else WIDTH, highlight=False, soft_wrap=False)
    console.print(_heading(scoring), markup=False, style="bold")
    for source in scoring.sources:
        console.print(f"\n{source.name}   {source.form}", markup=False, style="bold")
        console.print(_figures(source))
        console.print(note_table(_source_notes(source)))
    if scoring.differences:
        console.print(f"\ndifference to {scoring.differences[0].baseline}", markup=False, style="bold")
        console.print(_differences(scoring.differences))
    console.print()
    console.print(note_table(_ending(scoring)))


def scoring_text(scoring: Scoring) -> str:
    """The same as plain text."""
    out = io.StringIO()
    print_scoring(scoring, out)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _heading(scoring: Scoring) -> str:
    suite = scoring.suite
    kind = f"{suite.name} ({suite.block} v{suite.version})"
    return ", ".join(
        [kind, f"{suite.split} split", things(suite.items, "item"), *([suite.label] if suite.label else [])]
    )


def _figures(source: SourceResult) -> Table:
    errors = any(figure.error is not None for figure in source.figures)
    table = _table("figure", "value", "95 % interval", "n", "missing", *(["s.e."] if errors else []))
    for figure in source.figures:
        error = [] if figure.error is None else [f"{figure.error:.6f}"]
        name = figure.name + {"percent": ", %", "share": ""}.get(figure.unit, f", {figure.unit}" if figure.unit else "")
        table.add_row(name, _value(figure), _interval(figure), f"{figure.n:,}", f"{figure.missing:,}", *error)
    return table


def _differences(found: Iterable[Difference]) -> Table:
    table = _table(
        "answers", "metric", "difference", "95 % interval", "p", "p Holm", "exact", "n", "missing", "score is"
    )
    for one in found:
        exact = f"{one.exact_test} {probability(one.exact)}" if one.exact is not None else ""
        table.add_row(
            one.name,
            one.metric,
            f"{one.value:+.4f}",
            f"[{one.low:+.4f} {one.high:+.4f}]",
            probability(one.p),
            probability(one.p_holm),
            exact,
            f"{one.n:,}",
            f"{one.missing:,}",
            one.verdict,
        )
    return table


def _value(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.6f}"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"none: {figure.reason}" if figure.reason else "none"
    return f"[{figure.low:.4f} {figure.high:.4f}]"


def _source_notes(source: SourceResult) -> Iterable[tuple[str, str]]:
    if source.counts:
        yield "counts", ", ".join(f"{name} {value:g}" for name, value in source.counts.items())
    if source.runs > 1:
        yield "runs", f"{source.runs} (training seeds or data draws)"
    if source.missing:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in source.missing.items())
        yield "missing", f"{reasons}; intervals allow for the worst and the best case"
    if source.flagged:
        flags = ", ".join(f"{count:,} {name}" for name, count in source.flagged.items())
        yield "flagged", f"{flags}: answers that may sway a judge by other means than their quality"
    if source.cost:
        yield "spent", ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in source.cost.items() if count)
    yield from (("note", note) for note in source.notes)


def _ending(scoring: Scoring) -> Iterable[tuple[str, str]]:
    suite = scoring.suite
    if scoring.differences:
        yield "scope", ANSWERS
        yield "p", "two-sided, from paired items; p Holm is corrected over the sources of a metric; higher/lower at 5 %"
    if suite.stand_in and suite.real:
        yield "note", f"judged by a program ({suite.label}): these figures say nothing about quality"
    yield from (("note", note) for note in (*suite.notes, *scoring.notes))
    versions = ", ".join(f"{name} {version}" for name, version in scoring.versions.items())
    scorer = f" scorer {suite.scorer}" if suite.scorer > 1 else ""
    yield "version", f"{suite.block} v{suite.version}{scorer}, items {suite.fingerprint[:12]}, {versions}"


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        right = title in ("value", "difference", "n", "missing", "p", "p Holm", "s.e.")
        table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=title != "answers")
    return table
