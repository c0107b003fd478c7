"""The table of a profile, printed after a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import IO

from rich.console import Console
from rich.table import Table

from harness.loop.profile import Spent, Summary

LAYERS = ("engine", "trainer", "open", "import", "tokenizer", "grader", "io", "other")
"""The order of a stage's columns; further layers follow."""


def print_profile(summary: Summary, file: IO[str]) -> None:
    """Seconds per block and layer, then how each process spent its life, then where the trace is."""
    console = Console(file=file, highlight=False, soft_wrap=True, width=max(160, Console(file=file).width))
    console.print(_table("stages (seconds)", summary.stages, _columns(summary.stages)))
    console.print()
    for process in summary.processes:
        parts = Counter(process.layers).most_common()
        told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts if seconds >= 0.05)
        console.print(f"{process.name:<14} {process.seconds:7.1f} s  {told}", markup=False)
    console.print(f"trace: {summary.path} (open it in https://ui.perfetto.dev or chrome://tracing)", markup=False)


def _columns(rows: Sequence[Spent]) -> list[str]:
    there = dict.fromkeys(layer for row in rows for layer in row.layers)
    return [name for name in LAYERS if name in there] + [name for name in there if name not in LAYERS]


def _table(title: str, rows: Sequence[Spent], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for name in ("n", "all", *columns):
        table.add_column(name, justify="right")
    total = Counter[str]()
    for row in rows:
        total.update(row.layers)
        table.add_row(row.name, str(row.count), f"{row.seconds:.2f}", *(_cell(row.layers.get(c)) for c in columns))
    count, seconds = sum(row.count for row in rows), sum(row.seconds for row in rows)
    table.add_row("all", str(count), f"{seconds:.2f}", *(_cell(total[c]) for c in columns), style="bold")
    return table


def _cell(seconds: float | None) -> str:
    return f"{seconds:.2f}" if seconds and seconds >= 0.005 else ""
