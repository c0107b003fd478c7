"""`loopbench status`: how far an experiment is, from the store and the journal alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any

import click

from harness.cli.options import json_option, print_json


@click.command("status")
@click.argument("experiment", required=False)
@json_option
def status_command(experiment: str | None, as_json: bool) -> None:
    """Show how far an experiment is; without a name, all experiments of this home."""
    from harness.errors import UserError
    from harness.store.home import Home

    home = Home.find()
    names = [experiment] if experiment else sorted(p.parent.name for p in home.runs.glob("*/grid.json"))
    for name in names:
        if not home.grid_file(name).exists():
            raise UserError(f"{name!r} was never run in {home.path}: `loopbench run {name}` starts it")
    reports = [_report(home, name) for name in names]
    if as_json:
        print_json(reports[0] if experiment else reports)
        return
    for report in reports:
        _print(report)
    if not reports:
        click.echo(f"no experiment was run in {home.path} yet: `loopbench run quickstart` starts one")


def _report(home: Any, name: str) -> dict[str, Any]:
    from harness.analysis.trainings import trainings
    from harness.loop import foretold
    from harness.store import journal
    from harness.store.artifacts import Store

    grid = json.loads(home.grid_file(name).read_text())
    store = Store(home)
    done = [key for key, stage in grid["stages"].items() if store.done(stage["kind"], key)]
    finished = set(done)
    events = list(journal.read(home.journal_file(name)))
    failed: dict[str, str] = {}
    held: dict[str, str] = {}
    for event in events:
        if event["event"] == "stage_failed":
            failed[event["key"]] = f"{event['label']}: {event['why']}"
        elif event["event"] == "stage_held":
            held[event["key"]] = event["why"]
        elif event["event"] in ("stage_finished", "stage_started"):
            failed.pop(event["key"], None)
            held.pop(event["key"], None)
    cells = Counter(_cell_state(cell, set(done)) for cell in grid["cells"])
    return {
        "experiment": name,
        "stages": len(grid["stages"]),
        "done": len(done),
        "failed": {key: why for key, why in failed.items() if key in grid["stages"] and key not in finished},
        "held": {key: why for key, why in held.items() if key in grid["stages"] and key not in finished},
        "engine_notes": _notes(events, finished),
        "cells": dict(cells),
        "forecast": foretold.to_json(foretold.summed(e for e in events if e.get("key") in grid["stages"])),
        "training": trainings(
            store.manifest("model", key)
            for key in done
            if (grid["stages"][key]["kind"], grid["stages"][key]["action"]) == ("model", "finetune")
        ),
        "last_event": events[-1] if events else None,
    }


def _notes(events: Iterable[Mapping[str, Any]], finished: Container[str]) -> dict[str, list[str]]:
    """What engines told of finished stages, by label: the stages of all seeds have one, and each note stands once."""
    last = {e["key"]: e for e in events if e["event"] == "stage_finished" and e["key"] in finished}
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for event in last.values():
        for note in event.get("engine_notes") or ():
            found[event["label"]][note] = None
    return {label: list(notes) for label, notes in found.items()}


def _cell_state(cell: dict[str, Any], done: set[str]) -> str:
    grades = {key for turn in cell["iterations"] for splits in turn["grades"].values() for key in splits.values()}
    return "done" if grades <= done else "begun" if grades & done else "waiting"


def _print(report: dict[str, Any]) -> None:
    cells = ", ".join(f"{n} {state}" for state, n in report["cells"].items())
    last = report["last_event"]["event"] if report["last_event"] else "nothing"
    click.echo(
        f"{report['experiment']}: {report['done']} of {report['stages']} stages done; cells: {cells}; "
        f"last event: {last}"
    )
    if (seconds := report["forecast"].get("seconds")) is not None:
        off = "" if seconds["median"] is None else f", half of the stages within {seconds['median']:.0%}"
        click.echo(f"  forecast {seconds['said']:.0f} s of work for what took {seconds['was']:.0f} s{off}")
    if report["training"]:
        from harness.analysis.trainings import line

        click.echo(f"  {line(report['training'])}")
    for label, notes in report["engine_notes"].items():
        for note in notes:
            click.echo(f"  note    {label}: {note}")
    for why in report["failed"].values():
        click.echo(f"  failed  {why}")
    if report["held"]:
        click.echo(f"  held    {len(report['held'])} stages: {list(report['held'].values())[-1]}")
