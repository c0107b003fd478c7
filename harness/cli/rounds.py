"""`loopbench rounds`: the iterations of a loop side by side, and whether another one pays."""

from __future__ import annotations

import sys

import click

from harness.cli.options import json_option, print_json


@click.command("rounds")
@click.argument("experiment")
@click.option(
    "--least-gain",
    type=float,
    default=0.005,
    show_default=True,
    help="A smaller gain on the dev split is a reason to stop.",
)
@json_option
def rounds_command(experiment: str, least_gain: float, as_json: bool) -> None:
    """What each iteration did: pairs, distance to the data, losses, both log-probabilities, margins, scores.

    Means over the finished cells of an arm. Reasons to stop come from prompts that did not train and from the dev
    split; the test split decides nothing. Exit code 3 where nothing was run.
    """
    from harness.analysis.round_text import print_rounds
    from harness.analysis.rounds import rounds, to_json
    from harness.store.home import Home

    found = rounds(Home.find().path, experiment, least_gain)
    if as_json:
        print_json(to_json(found))
        return
    print_rounds(found, sys.stdout)
