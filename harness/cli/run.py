"""`loopbench run`: plan, execute with a live view, track, and print who won."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import experiment_argument, json_option, print_json, set_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.loop.outcome import Outcome
    from harness.loop.plan import Plan
    from harness.loop.profile import Profile
    from harness.store.home import Home
    from harness.tracking import Sink


@click.command("run")
@experiment_argument
@set_option
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes (default: one per GPU, else one per core)."
)
@click.option("--no-tracking", is_flag=True, help="Write nothing to MLflow; a later run catches up.")
@click.option("--profile", "profiled", is_flag=True, help="Write down where the time goes, as a table and a trace.")
@json_option
def run_command(
    experiment: str,
    overrides: tuple[str, ...],
    workers: int | None,
    no_tracking: bool,
    profiled: bool,
    as_json: bool,
) -> int:
    """Run an experiment, or go on with it.

    EXPERIMENT is a name (beside you, in the project's folders, or a preset such as `quickstart`) or a path. What is
    already done is not done again: after a crash or Ctrl-C the same command goes on.
    """
    from harness import api
    from harness.loop import forked
    from harness.loop.profile import Profile
    from harness.store.home import Home

    begun = time.perf_counter()
    home = Home.find()
    if not home.grid_file(Path(experiment).stem).exists():  # the first run of it: there will be work
        forked.begin()
    plan = api.plan(experiment, overrides)
    home.prepare()
    profile = Profile.begin(home, plan.experiment.name) if profiled else None
    if profile is not None:
        profile.planned(begun)
    try:
        with profile.life() if profile is not None else nullcontext():
            outcome = _run(plan, home, workers, no_tracking, as_json, profile)
    finally:
        summary = profile.finish() if profile is not None else None
    if summary is not None:
        from harness.cli.profiled import print_profile

        print_profile(summary, sys.stderr if as_json else sys.stdout)
    return outcome.exit_code


def _run(
    plan: Plan, home: Home, workers: int | None, no_tracking: bool, as_json: bool, profile: Profile | None
) -> Outcome:
    """Runs the plan with MLflow beside it, and prints who won while MLflow is written to its end."""
    from harness.clock import layer
    from harness.tracking import drain, release

    sinks: list[Sink] = []
    try:
        outcome = _execute(plan, home, workers, None if no_tracking else sinks, as_json, profile)
        for sink in sinks:
            release(sink)
        if outcome.waiting_for_limits is not None:
            click.echo(outcome.waiting_for_limits, err=True)
        with layer("report"):
            _report(plan.experiment.name, home, outcome, as_json)
    finally:
        with layer("tracking"):
            for sink in sinks:
                if (message := drain(sink).message) is not None:
                    click.echo(message, err=True)
    return outcome


def _execute(
    plan: Plan, home: Home, workers: int | None, sinks: list[Sink] | None, quiet: bool, profile: Profile | None
) -> Outcome:
    """Runs the plan with its view; the process that writes MLflow is put into `sinks`, where they are wanted."""
    from harness import api
    from harness.cli.progress import View
    from harness.loop.slices import ENVIRONMENT
    from harness.tracking import start

    name = plan.experiment.name
    about = {} if profile is None else {ENVIRONMENT: str(profile.folder)}
    with View(name, quiet=quiet) as view:

        def listen(event: str, stage: Any, data: Any) -> None:
            if event == "grid" and sinks is not None:  # the lease is held: no other run writes this experiment
                sinks.append(start(home, name, plan.key, {**os.environ, **about}))
            view.listen(event, stage, data)

        return api.run(plan, workers=workers, home=home, listener=listen, profile=profile)


def _events(home: Home, name: str, outcome: Outcome) -> Iterator[Any]:
    """What the journal says of the stages that this run did."""
    from harness.store import journal

    done = set(outcome.done)
    return (event for event in journal.read(home.journal_file(name)) if event.get("key") in done)


def _report(name: str, home: Any, outcome: Any, as_json: bool) -> None:
    from harness import api
    from harness.errors import CannotTell
    from harness.loop import foretold
    from harness.store.spent import Ledger

    errors = foretold.summed(_events(home, name, outcome))
    if (said := foretold.sentence(errors)) is not None and not as_json:
        click.echo(said, err=True)
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
        "forecast": foretold.to_json(errors),
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
