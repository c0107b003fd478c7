"""`loopbench ui`: MLflow on 127.0.0.1, as one light server process."""

from __future__ import annotations

import os

import click

from harness.cli.options import json_option, print_json


@click.command("ui")
@json_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui_command(port: int, as_json: bool) -> None:
    """Open MLflow on this machine; Ctrl-C ends it. With --json, only print the address and the command.

    Where MLFLOW_TRACKING_URI names a server, its address is printed instead.
    """
    from harness.store.home import Home
    from harness.tracking import ui

    page = ui(Home.find(), os.environ, port)
    if as_json:
        print_json({"url": page.url, "command": list(page.command)})
        return
    if not page.command:
        click.echo(f"MLflow is served at {page.url} already")
        return
    click.echo(f"MLflow will be on {page.url} in a few seconds (Ctrl-C ends it)")
    os.execvpe(page.command[0], list(page.command), dict(page.env))
