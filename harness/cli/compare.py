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
    found = api.claims(experiment) if split == "test" else None
    if as_json:
        print_json(comparison.to_json() | ({} if found is None else {"claims": found.to_json()}))
        return
    from harness.analysis.claim_text import print_claims
    from harness.analysis.table import print_comparison

    print_comparison(comparison, file=sys.stdout)
    if found is not None:
        click.echo()
        print_claims(found, sys.stdout)
