"""`loopbench compare`: which recipe is better, with its uncertainty."""

from __future__ import annotations

import sys

import click

from harness.cli.options import json_option, print_json


@click.command("compare")
@click.argument("experiment")
@click.option(
    "--split", type=click.Choice(["test", "dev"]), default="test", show_default=True, help="Claims come from test."
)
@json_option
def compare_command(experiment: str, split: str, as_json: bool) -> None:
    """Which recipe is better, and is the difference real? Exit code 3 where nothing was measured."""
    from harness import api

    comparison = api.compare(experiment, split)
    if as_json:
        print_json(comparison.to_json())
        return
    from harness.analysis.table import print_comparison

    print_comparison(comparison, file=sys.stdout)
