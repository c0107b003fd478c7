"""The rounds of a loop as text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TextIO

from harness.analysis.rounds import Round

SHOWN = {
    "rows": ("rows", ".0f"),
    "equal answers": ("equal", ".2f"),
    "distance": ("distance", ".3f"),
    "own words": ("own words", ".1f"),
    "gold words": ("gold words", ".1f"),
    "first loss": ("loss first", ".4f"),
    "last loss": ("last", ".4f"),
    "last rewards/margins": ("margin", ".3f"),
    "last logps/chosen": ("logp chosen", ".2f"),
    "last logps/rejected": ("rejected", ".2f"),
    "held_out/rewards/accuracies": ("held-out acc.", ".2f"),
    "held_out/change/chosen": ("logp chosen moved", "+.2f"),
    "held_out/change/rejected": ("rejected", "+.2f"),
    "dev": ("dev", ".3f"),
    "dev gain": ("gain", "+.3f"),
    "test": ("test", ".3f"),
    "test gain": ("gain", "+.3f"),
}
"""Name of a value -> its column's head and form."""


def print_rounds(found: Sequence[Round], file: TextIO) -> None:
    """One table per arm, with the columns that it has, and the reasons to stop under it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=file, highlight=False, soft_wrap=True, width=None if file.isatty() else 200)
    for (recipe, student), group in groupby(found, key=lambda one: (one.recipe, one.student)):
        arm = list(group)
        names = [name for name in SHOWN if any(name in one.values for one in arm)]
        table = Table(box=box.SIMPLE_HEAD, title=f"{recipe}   {student}   {arm[0].cells} cells", title_justify="left")
        for head in ("iteration", *(SHOWN[name][0] for name in names)):
            table.add_column(head, justify="right")
        for one in arm:
            cells = (format(one.values[name], SHOWN[name][1]) if name in one.values else "" for name in names)
            table.add_row(str(one.iteration), *cells)
        console.print(table)
        for one in arm:
            for reason in one.stop:
                console.print(f"after iteration {one.iteration}: {reason}", markup=False)
