"""`loopbench gate`: a verdict for CI. Passed 0, failed 1, cannot tell 3; nothing measured is never a pass."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import json_option, print_json


@click.command("gate")
@click.argument("experiment")
@click.option("--recipe", help="The candidate (default: the experiment's only recipe besides its baseline).")
@click.option("--baseline", type=click.Path(path_type=Path, dir_okay=False), help="A file written by --write.")
@click.option(
    "--margin",
    "margins",
    multiple=True,
    metavar="METRIC=LOSS",
    help="The loss that is still acceptable: accuracy=0.02.",
)
@click.option(
    "--write",
    "write",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write this experiment's results as a baseline file instead.",
)
@json_option
def gate_command(
    experiment: str,
    recipe: str | None,
    baseline: Path | None,
    margins: tuple[str, ...],
    write: Path | None,
    as_json: bool,
) -> int:
    """Pass, fail or cannot tell, against a baseline file or the experiment's own baseline recipe."""
    from harness.analysis import gate
    from harness.errors import UserError
    from harness.store.home import Home

    home = Home.find().path
    if write is not None:
        gate.write_baseline(home, experiment, recipe, write)
        if as_json:
            print_json({"written": str(write), "experiment": experiment, "recipe": recipe})
        else:
            click.echo(f"{write}: the baseline of {experiment}")
        return 0
    margin: dict[str, float] = {}
    for text in margins:
        name, _, value = text.partition("=")
        try:
            margin[name] = float(value)
        except ValueError:
            raise UserError(f"--margin {text!r}: write METRIC=LOSS, such as accuracy=0.02") from None
    result = gate.gate_experiment(home, experiment, recipe=recipe, baseline=baseline, margins=margin or None)
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(result.text())
    return result.exit_code
