"""`loopbench data`: what is in a source of rows, before an experiment uses it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import json_option, print_json

if TYPE_CHECKING:
    from harness.loop.leaks import Looked


@click.group("data")
def data_command() -> None:
    """Look at a source of rows."""


@data_command.command("check")
@click.argument("dataset")
@click.option(
    "--suites", default="", help="Suites whose items are looked for in the rows: names or paths, with commas."
)
@click.option(
    "--set", "settings", multiple=True, metavar="OPTION=VALUE", help="words, share, shortest, near or shingle."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="JSONL of every row that holds an item."
)
@json_option
def check(dataset: str, suites: str, settings: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Read a dataset whole, and look for the items of suites in it.

    For example: loopbench data check alpaca --suites alpaca-eval,mt-bench,gsm8k
    """
    import json
    from dataclasses import asdict

    from harness.loop.leaks import check_dataset
    from harness.store.atomic import write_bytes

    names = [name.strip() for name in suites.split(",") if name.strip()]
    looked, dropped = check_dataset(dataset, names, settings)
    if output is not None:
        write_bytes(output, "".join(json.dumps(asdict(h), ensure_ascii=False) + "\n" for h in looked.hits).encode())
    if as_json:
        print_json({"dataset": dataset, "rows": looked.rows, "dropped": dropped, "suites": looked.suites})
    else:
        _print(dataset, looked, dropped)


def _print(dataset: str, looked: Looked, dropped: dict[str, int]) -> None:
    left = ", ".join(f"{n:,} {reason}" for reason, n in dropped.items())
    click.echo(f"{dataset}: {looked.rows:,} rows" + (f"; dropped: {left}" if left else ""))
    for suite, splits in looked.suites.items():
        for split, counts in splits.items():
            click.echo(f"{suite} {split}: {_line(counts)}")
            for example in counts["examples"]:
                click.echo(f"  {example}")


def _line(counts: Any) -> str:
    signs = ", ".join(f"{n} {sign}" for sign, n in counts["signs"].items())
    found = f"{counts['affected']:,} of {counts['items']:,} items in {counts['rows']:,} rows"
    return found + (f" ({signs})" if signs else "")
