"""`loopbench run`: plan, execute with a live view, track, and print who won."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any

import click

from harness.cli.options import experiment_argument, json_option, print_json, set_option


@click.command("run")
@experiment_argument
@set_option
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes (default: one per GPU, else one per core)."
)
@click.option("--no-tracking", is_flag=True, help="Write nothing to MLflow; a later run catches up.")
@json_option
def run_command(
    experiment: str, overrides: tuple[str, ...], workers: int | None, no_tracking: bool, as_json: bool
) -> int:
    """Run an experiment, or go on with it.

    EXPERIMENT is a name (beside you, in the project's folders, or a preset such as `quickstart`) or a path. What is
    already done is not done again: after a crash or Ctrl-C the same command goes on.
    """
    from harness import api
    from harness.cli.progress import View
    from harness.store.home import Home
    from harness.tracking import Sink, drain, start

    plan = api.plan(experiment, overrides)
    home = Home.find().prepare()
    name = plan.experiment.name
    sinks: list[Sink] = []
    try:
        with View(name, quiet=as_json) as view:

            def listen(event: str, stage: Any, data: Any) -> None:
                if event == "grid" and not no_tracking:  # the lease is held: no other run writes this experiment
                    sinks.append(start(home, name, plan.key, os.environ))
                view.listen(event, stage, data)

            outcome = api.run(plan, workers=workers, home=home, listener=listen)
    finally:
        tracked = drain(sinks[0]) if sinks else None
    if tracked is not None and tracked.message:
        click.echo(tracked.message, err=True)
    if outcome.waiting_for_limits is not None:
        click.echo(outcome.waiting_for_limits, err=True)
    _report(name, home, outcome, as_json)
    return outcome.exit_code


def _report(name: str, home: Any, outcome: Any, as_json: bool) -> None:
    from harness import api
    from harness.errors import CannotTell
    from harness.store.spent import Ledger

    spent = Ledger(home.spent_file(name)).spent()
    if spent.calls and not as_json:
        unsure = f", {spent.unsure_usd:.2f} of it perhaps not charged" if spent.unsure_usd else ""
        click.echo(f"served models cost {name} {spent.usd:.2f} USD so far ({spent.calls:,} calls{unsure})", err=True)
    summary = {
        "wall": outcome.wall,
        "done": len(outcome.done),
        "found": len(outcome.found),
        "failed": outcome.failed,
        "held": outcome.held,
        "blocked": len(outcome.blocked),
        "spent": asdict(spent),
    }
    try:
        comparison = api.compare(name, home=home)
    except CannotTell as error:
        if as_json:
            print_json({"experiment": name, "run": summary, "comparison": None, "why": str(error)})
        else:
            click.echo(f"nothing to compare yet: {error}", err=True)
        return
    found = api.claims(name, home)
    if as_json:
        about = {} if found is None else {"claims": found.to_json()}
        print_json({"experiment": name, "run": summary, "comparison": comparison.to_json()} | about)
        return
    from harness.analysis.claim_text import print_claims
    from harness.analysis.table import print_comparison

    print_comparison(comparison, wall=outcome.wall, failed=len(outcome.failed), file=sys.stdout)
    if found is not None:
        click.echo()
        print_claims(found, sys.stdout)
