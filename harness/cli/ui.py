"""`loopbench ui`: MLflow on 127.0.0.1, as one light server process."""

from __future__ import annotations

import os

import click


@click.command("ui")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Another address shows your results to others on the network.",
)
def ui_command(port: int, host: str) -> None:
    """Open MLflow on this machine; Ctrl-C ends it."""
    from harness.store.home import Home
    from harness.tracking.ui import server_command

    command, environment = server_command(Home.find().path, host, port)
    click.echo(f"MLflow on http://{host}:{port} (Ctrl-C ends it)")
    os.execvpe(command[0], command, environment)
