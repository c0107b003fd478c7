"""Claims as text: what was claimed, what was measured, the verdict, and what would settle an open one."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING

from harness.analysis.claim_result import DOES_NOT, HOLDS, ClaimResult, Claims, ScorerResult
from harness.analysis.notes import note_table
from harness.analysis.numbers import number, pair, probability, things

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH = 120
ACROSS = 6
"""Scores side by side in the table of areas."""


def print_claims(claims: Claims, file: IO[str] | None = None) -> None:
    """Prints the claims of an experiment with their verdicts; colour only on a terminal."""
    from rich.console import Console

    terminal = file is None or file.isatty()
    console = Console(file=file, width=None if terminal else WIDTH, highlight=False, soft_wrap=False)
    console.print(_heading(claims), style="bold", markup=False)
    console.print(_table(claims))
    for part in _areas(claims.scorers):
        console.print(part)
    console.print(note_table(_notes(claims)))


def claims_text(claims: Claims) -> str:
    """The claims as plain text."""
    out = io.StringIO()
    print_claims(claims, out)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _heading(claims: Claims) -> str:
    verdicts = ", ".join(f"{number} {name}" for name, number in claims.counts.items())
    seeds = things(len(claims.seeds), "training seed")
    return f"{claims.experiment}   {things(len(claims.results), 'claim')}, {seeds}: {verdicts}"


def _table(claims: Claims) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in claims.results:
        style = {HOLDS: "green", DOES_NOT: "red"}.get(one.verdict, "")
        table.add_row(Text(one.verdict, style=style), _claim(one))
    return table


def _claim(one: ClaimResult) -> Text:
    from rich.text import Text

    said = Text(one.id, style="bold")
    said.append(f"  {one.text}" + (f" ({one.source})" if one.source else ""), style="not bold")
    lines = [f"{one.measure}, {one.compared}: {measured_text(one)}"]
    about = [f"{one.sample}" + (f", {things(one.runs, 'training seed')}" if one.runs else ""), one.budget, one.reason]
    lines += ["; ".join(part for part in about if part)]
    lines += [f"to settle it: {one.settle}"] if one.verdict not in (HOLDS, DOES_NOT) and one.settle else []
    for line in filter(None, lines):
        said.append(f"\n{line}", style="not bold")
    return said


def measured_text(one: ClaimResult) -> str:
    """The number with its interval, what it had to pass, and its corrected p-value."""
    wanted = f"claimed {'>' if one.side == 'high' else '<'} {number(one.null, one.unit, 2)}"
    if one.value is None or one.low is None or one.high is None:
        return f"not measured ({wanted})"
    signed = one.kind != "scorer"
    digits = 3 if abs(one.high - one.low) < 0.04 else 2
    value = number(one.value, one.unit, digits, signed=signed)
    ends = pair(one.low, one.high, one.unit, digits, signed=signed)
    return f"{value} {ends} ({wanted}{f', p Holm {probability(one.p_holm)}' if one.p_holm is not None else ''})"


def _areas(scorers: Sequence[ScorerResult]) -> Iterable[Table]:
    """Areas under the ROC curve: a row for each defect, a column for each score; one table per score step's rows."""
    names = list(dict.fromkeys((one.recipe, one.step, one.scorer) for one in scorers))
    for start in range(0, len(names), ACROSS):
        yield _area_table(scorers, names[start : start + ACROSS])


def _area_table(scorers: Sequence[ScorerResult], names: Sequence[tuple[str, str, str]]) -> Table:
    from rich.table import Table

    cells = {(one.recipe, one.step, one.scorer, one.defect): one for one in scorers}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    table.title = "AUROC of each score for planted defects (above .5: defective rows score higher)"
    table.add_column("defect", no_wrap=True)
    many = len({recipe for recipe, _, _ in names}) > 1
    for recipe, _, scorer in names:
        table.add_column(f"{scorer} ({recipe})" if many else scorer, overflow="fold")
    for defect in dict.fromkeys(one.defect for one in scorers):
        table.add_row(defect, *(_area(cells.get((*name, defect))) for name in names))
    return table


def _area(one: ScorerResult | None) -> str:
    if one is None or one.value is None or one.low is None or one.high is None:
        return "-"
    return f"{number(one.value, 'share', 2)} {pair(one.low, one.high, 'share', 2)}"


def _notes(claims: Claims) -> Iterable[tuple[str, str]]:
    if claims.family:
        about = things(claims.family, "claim")
        yield "p", f"two-sided, Holm over {about}; intervals are 95 % each, not corrected"
    yield (
        "seeds",
        f"training seeds {', '.join(map(str, claims.seeds))}; data draws {', '.join(map(str, claims.data_seeds))}",
    )
    rows: dict[tuple[str, int, int, int], list[str]] = {}
    for one in claims.scorers:
        if one.defect == "any":
            rows.setdefault((one.recipe, one.defective, one.clean, one.missing), []).append(one.scorer)
    for (recipe, defective, clean, missing), scores in rows.items():
        lost = f" ({missing:,} without a score left out)" if missing else ""
        yield "rows", f"{recipe}: {defective:,} defective and {clean:,} clean{lost} for {', '.join(scores)}"
    for line in claims.warnings:
        yield "note", line
