"""The processes of a training on several devices: `python -m harness.finetune._ranks`.

With a process id and accelerate's arguments this is the launcher, with a folder one of the processes.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import LoopbenchError
from harness.finetune._world import world
from harness.lifeline import tie_to
from harness.records.example import Example


def main(arguments: list[str]) -> None:
    """Launches, or trains as one of the processes."""
    if len(arguments) > 1:
        tie_to(int(arguments[0]))
        _launch(arguments[1:])
    else:
        tie_to(os.getppid())
        _train(Path(arguments[0]))


def _launch(arguments: list[str]) -> None:
    from accelerate.commands.launch import launch_command, launch_command_parser

    launch_command(launch_command_parser().parse_args(arguments))


def _train(folder: Path) -> None:
    here = world()
    block, context = pickle.loads((folder / "task").read_bytes())  # noqa: S301 our own process wrote it
    if here.first:
        context = replace(context, progress=_progress(folder / "progress"))
    try:
        report = block.train(_rows(folder / "rows"), context)
    except LoopbenchError as error:
        _write(folder / f"error-{here.rank}", error)
        sys.exit(1)
    except Exception:  # the border of the process: the one that launched it raises it as its own
        _write(folder / f"error-{here.rank}", RuntimeError(f"process {here.rank}: {traceback.format_exc()}"))
        raise
    if here.first:
        _write(folder / "report", report)


def _rows(file: Path) -> Iterator[Example]:
    with file.open("rb") as opened:
        while opened.peek(1):
            yield pickle.load(opened)  # noqa: S301 our own process wrote it


def _progress(file: Path) -> Any:
    def report(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        with file.open("a") as opened:
            opened.write(json.dumps([step, steps, dict(metrics)]) + "\n")

    return report


def _write(file: Path, value: Any) -> None:
    temporary = file.with_name(f".{file.name}")
    temporary.write_bytes(pickle.dumps(value))
    temporary.replace(file)


if __name__ == "__main__":
    main(sys.argv[1:])
