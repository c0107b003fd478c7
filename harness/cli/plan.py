"""`loopbench plan`: what would run, what is done already, and what it will cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import click

from harness.cli.options import experiment_argument, json_option, print_json, set_option


@click.command("plan")
@experiment_argument
@set_option
@click.option("--stages", is_flag=True, help="List every stage, not only the sums.")
@click.option("--calibrate", is_flag=True, help="Measure each model for some seconds first; kept for later forecasts.")
@json_option
def plan_command(experiment: str, overrides: tuple[str, ...], stages: bool, calibrate: bool, as_json: bool) -> None:
    """Show the stages of an experiment and what they will cost, without running them."""
    from harness import api
    from harness.loop import calibrate as measuring
    from harness.loop.engines import engines_of, reasons
    from harness.loop.forecast import forecast
    from harness.store.home import Home

    plan = api.plan(experiment, overrides)
    for told in measuring.calibrate(plan, Home.find()) if calibrate else ():
        click.echo(_told(told), err=True)
    cast = forecast(plan, Home.find())
    if as_json:
        print_json(cast.to_json() | {"engines": engines_of(plan)})
        return
    _print(plan, cast)
    for reason in reasons(plan):
        click.echo(reason)
    if stages:
        for line in cast.stages:
            click.echo(_listed(line))


def _told(told: Any) -> str:
    rates = ", ".join(f"{name} {rate:,.0f} tokens/s" for name, rate in told.rates.items())
    if told.why is None:
        return f"{told.model}: {rates}"
    return f"{told.model} could not be measured{f' any further ({rates})' if rates else ''}: {told.why}"


def _listed(line: Any) -> str:
    state = f"{'done' if line.done else 'to run':<6} {line.key[:12]}  {line.action:<10}"
    if line.done:
        return f"{state} {line.label}"
    tokens = "" if line.tokens is None else f", {line.tokens:,} tokens by {line.tokens_basis}"
    memory = "" if line.memory is None else f", {_gib(line.memory)} by {line.memory_basis}"
    return f"{state} {line.label}  ({line.seconds:.1f} s by {line.basis}{tokens}{memory})"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _print(plan: Any, cast: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    e = plan.experiment
    click.echo(
        f"{e.name}: {len(e.recipes)} recipes x {len(e.students)} students x {len(e.seeds)} seeds "
        f"x {len(e.data_seeds)} data seeds = {len(plan.cells)} cells"
    )
    table = Table(box=None, pad_edge=False)
    for title, side in (
        ("stage", "left"),
        ("all", "right"),
        ("done", "right"),
        ("to run", "right"),
        ("seconds", "right"),
        ("tokens", "right"),
        ("memory", "right"),
    ):
        table.add_column(title, justify=side)  # type: ignore[arg-type]
    actions = Counter(line.action for line in cast.stages)
    for action, count in actions.items():
        lines = [line for line in cast.stages if line.action == action]
        left = [line for line in lines if not line.done]
        tokens = sum(line.tokens or 0 for line in left)
        table.add_row(
            action,
            str(count),
            str(count - len(left)),
            str(len(left)),
            f"{sum(x.seconds for x in left):.0f}",
            f"{tokens:,}",
            _gib(max((x.memory or 0 for x in left), default=0)),
        )
    Console().print(table)
    click.echo(f"about {cast.wall:.0f} s with {cast.workers} workers ({cast.basis}); money: {cast.money}")
    if unknown := _unsized(plan, cast.stages):
        click.echo(f"not in these sums, because the number of their rows is not known yet: {unknown}")


def _unsized(plan: Any, stages: Iterable[Any]) -> str:
    """Stages that ask or train a model and whose rows cannot be foretold, by action: their tokens count as 0."""
    from harness.loop.rates import MODEL_WORK

    left = (line for line in stages if not line.done and line.rows is None and line.tokens is None)
    asking = (line for line in left if line.action in MODEL_WORK and plan.stages[line.key].models)
    return ", ".join(f"{count} {action}" for action, count in Counter(line.action for line in asking).items())
