"""Starts and ends the MLflow process beside a run. Never imports MLflow, and never lets it hold the run up.

The process tails the journal on its own. Its standard input is how it learns that the run is over: one byte, or the
end of the pipe when the run was killed. So no signal can reach it half started, and it never outlives the run for long.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from harness.store.home import Home
from harness.tracking.where import SETTINGS, complete, log_file, owed, read_stamp, stamp_file, tracking_uri


@dataclass(frozen=True)
class Outcome:
    """How tracking ended. `message` is a paragraph for the user, None where there is nothing to say."""

    ok: bool
    message: str | None = None


@dataclass
class Sink:
    """The process that writes MLflow; `process` is None where everything was logged before."""

    home: Home
    experiment: str
    plan_key: str
    process: subprocess.Popen[bytes] | None


def start(home: Home, experiment: str, plan_key: str, env: Mapping[str, str]) -> Sink:
    """Starts the process that writes an experiment to MLflow while it runs.

    Args:
        home: where the journal, the grid file and the store are.
        experiment: whose journal is followed.
        plan_key: the plan that is about to run; the grid file may still be that of an earlier one.
        env: the environment, usually `os.environ`; `MLFLOW_TRACKING_URI` in it names a server.
    """
    if complete(home, experiment, plan_key, tracking_uri(home, env)) and not owed(home, experiment):
        return Sink(home, experiment, plan_key, None)
    stamp_file(home, experiment, plan_key).unlink(missing_ok=True)
    arguments = ["--home", str(home.path), "--experiment", experiment, "--plan", plan_key, "--follow"]
    log = log_file(home, experiment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.tracking.sink", *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**SETTINGS, **env},
            start_new_session=True,  # Ctrl-C is for the run; this process is told by its standard input
        )
    return Sink(home, experiment, plan_key, process)


def release(sink: Sink) -> None:
    """Tells the process that the run is over, so that it writes the rest while the caller goes on; then `drain` it."""
    if sink.process is not None and sink.process.stdin is not None:
        with suppress(OSError):  # it has ended: `drain` says how
            sink.process.stdin.write(b".")
            sink.process.stdin.flush()


def drain(sink: Sink, timeout: float = 60.0) -> Outcome:
    """Tells the process that the run is over and waits until it has written the rest.

    Args:
        sink: what `start` gave.
        timeout: seconds; a process that takes longer is ended, and what is missing is filled in by the next run.
    """
    process = sink.process
    if process is None:
        return Outcome(ok=True)
    try:
        process.communicate(b".", timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return Outcome(
            ok=False,
            message=f"MLflow was still being written after {timeout:.0f} s and was left there. The results are "
            "complete and safe; run the same command again to write the rest.",
        )
    code = process.returncode
    return Outcome(ok=True) if code == 0 else Outcome(ok=False, message=_said(sink, code))


def _said(sink: Sink, code: int) -> str:
    stamp = read_stamp(sink.home, sink.experiment, sink.plan_key)
    if stamp is not None and stamp.message:
        return stamp.message
    log = log_file(sink.home, sink.experiment)
    return (
        f"The process that writes MLflow ended with code {code}; {log} says why. The results are complete and safe; "
        "run the same command again to write what is missing."
    )
