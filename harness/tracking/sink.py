"""The MLflow process: follows a run, or writes one again, and leaves the same thing in MLflow either way.

    python -m harness.tracking.sink --home DIR --experiment NAME [--plan KEY --follow]

With `--follow` it tails the journal until its standard input says that the run is over (a byte, or the end of the
pipe). Without, it writes once what the store holds: a replay after an outage. It only reads what the run writes, keeps
no state besides MLflow's own tags, and may be killed anywhere. Exit codes: 0 all that is done is logged, 2 a mistake
in the surroundings, 4 MLflow was not reachable, 70 a bug.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.analysis.grid import Grid, read_grid
from harness.clock import timed
from harness.errors import EXIT_INTERNAL, EXIT_OK, LoopbenchError, UserError
from harness.loop.slices import Life, folder_of_environment
from harness.store.home import Home
from harness.store.locks import lease
from harness.tracking.system import metered
from harness.tracking.tracker import Unreachable
from harness.tracking.where import SETTINGS, Stamp, owed, place, tracking_uri, write_stamp
from harness.tracking.writer import Writer

POLL = 3.0
"""Seconds between looks at the journal."""
RETRY = (5.0, 60.0)
"""First and longest pause after MLflow did not answer, in seconds; it doubles in between."""

Wait = Callable[[float], bool]
"""Sleeps up to so many seconds; True as soon as the run is over."""


def replay(home: Home, experiment: str, env: Mapping[str, str]) -> bool:
    """Writes what MLflow lacks of an experiment; True when nothing of its last plan is left.

    Earlier plans whose tracking met an outage are made good as well.

    Raises:
        CannotTell: the experiment never ran here.
        UserError: another process writes it.
        Unreachable: MLflow did not answer; what was written stays, the next replay goes on from there.
    """
    grid = read_grid(home.path, experiment)
    uri = tracking_uri(home, env)
    with _alone(home, experiment):
        return _last(Writer(home, grid, uri))


def follow(home: Home, experiment: str, plan_key: str, env: Mapping[str, str], wait: Wait) -> bool:
    """Writes an experiment while it runs, until `wait` says that it is over; True when nothing of the plan is left.

    Raises:
        UserError, Unreachable: as `replay`; an outage is only raised when it outlasts the run.
    """
    uri = tracking_uri(home, env)
    with _alone(home, experiment):
        grid = _planned(home, experiment, plan_key, wait)
        writer, journal = Writer(home, grid, uri), home.journal_file(experiment)
        seen, pause, due = -1, RETRY[0], 0.0
        with metered(uri) as meter:
            while not wait(POLL):
                size = journal.stat().st_size if journal.exists() else 0
                if size == seen or time.monotonic() < due:
                    continue
                try:
                    writer.write(final=False)
                    meter.on(writer.parent)
                    seen, pause = size, RETRY[0]
                except Unreachable as error:
                    print(error, file=sys.stderr, flush=True)
                    due, pause = time.monotonic() + pause, min(2 * pause, RETRY[1])
        return _last(writer)


def _last(writer: Writer) -> bool:
    """The pass after the run, and those of earlier plans that are still owed."""
    complete = _stamped(writer)
    home, experiment = writer.home, writer.grid.experiment
    for key in owed(home, experiment):
        _stamped(Writer(home, read_grid(home.path, experiment, key), writer.uri))
    return complete


def _stamped(writer: Writer) -> bool:
    home, grid, where = writer.home, writer.grid, place(writer.uri)
    try:
        complete = writer.write(final=True)
    except Unreachable as error:
        write_stamp(home, grid.experiment, grid.plan_key, Stamp(place=where, complete=False, message=str(error)))
        raise
    write_stamp(home, grid.experiment, grid.plan_key, Stamp(place=where, complete=complete))
    return complete


def _planned(home: Home, experiment: str, plan_key: str, wait: Wait) -> Grid:
    """The grid file of the plan that is about to run; until it is written, that of an earlier plan may be there."""
    path = home.grid_file(experiment)
    over = False
    while True:
        if path.exists() and (grid := read_grid(home.path, experiment)).plan_key == plan_key:
            return grid
        if over:
            raise UserError(f"{path}: the run ended before it planned anything, so there is nothing to log")
        over = wait(0.1)


def _alone(home: Home, experiment: str) -> contextlib.AbstractContextManager[None]:
    return lease(
        home.locks, f"mlflow-{experiment}".replace("/", "-"), f"MLflow's view of experiment {experiment}", timeout=30
    )


@timed("waiting")
def _stdin(seconds: float) -> bool:
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m harness.tracking.sink", description="Writes a run to MLflow.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--follow", action="store_true", help="until standard input ends or gives a byte")
    parser.add_argument("--plan", help="with --follow: the plan key to wait for")
    given = parser.parse_args(arguments)
    if given.follow and given.plan is None:
        parser.error("--follow needs --plan")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    home = Home(given.home)
    try:
        with Life(folder_of_environment(), "MLflow")():
            if given.follow:
                os.nice(5)  # the run comes first
                follow(home, given.experiment, given.plan, os.environ, _stdin)
            else:
                replay(home, given.experiment, os.environ)
    except LoopbenchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except Exception:  # noqa: BLE001  the border of the process: shown whole, and the code says bug
        traceback.print_exc()
        return EXIT_INTERNAL
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
