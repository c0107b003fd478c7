"""`loopbench init`: the presets as files of your own."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import json_option, print_json


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
def init_command(folder: Path, as_json: bool) -> None:
    """Copy the preset experiments, recipes, suites and data sources into a folder.

    A file that is there already is left as it is.
    """
    from harness.config import copy_presets

    written = copy_presets(folder)
    if as_json:
        print_json({"folder": str(folder), "files": [str(path) for path in written]})
    else:
        click.echo(f"{folder}: {len(written)} files. Next: cd {folder} && loopbench run quickstart")
