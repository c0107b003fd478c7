"""`loopbench plan`: what would run, what is done already, and what it will cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from harness.cli.options import experiment_argument, json_option, print_json, set_option


@click.command("plan")
@experiment_argument
@set_option
@click.option("--stages", is_flag=True, help="List every stage, not only the sums.")
@json_option
def plan_command(experiment: str, overrides: tuple[str, ...], stages: bool, as_json: bool) -> None:
    """Show the stages of an experiment and what they will cost, without running them."""
    from harness import api
    from harness.loop.forecast import forecast
    from harness.store.home import Home

    plan = api.plan(experiment, overrides)
    cast = forecast(plan, Home.find())
    if as_json:
        print_json(cast.to_json())
        return
    _print(plan, cast)
    if stages:
        for line in cast.stages:
            click.echo(f"{'done   ' if line.done else 'to run '} {line.key[:12]}  {line.action:<10} {line.label}")


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
        )
    Console().print(table)
    click.echo(f"about {cast.wall:.0f} s with {cast.workers} workers ({cast.basis}); money: {cast.money}")
