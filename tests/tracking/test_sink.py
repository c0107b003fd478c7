"""The process beside a run: it keeps up, survives kills and outages, ends when the run does, and never stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from harness.tracking import drain, start
from harness.tracking.launch import Sink
from harness.tracking.sink import main, replay
from harness.tracking.where import log_file, read_stamp, stamp_file

ONE = "all-data/student/s0"
Look = Callable[..., Any]
QUIET = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
WAIT = 120.0
"""Seconds: generous, because the machine that runs the tests may be busy."""


def until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT
    while not happened():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


def nobody_listens() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def gone(sink: Sink) -> bool:
    return sink.process is None or sink.process.poll() is not None


# --- following ------------------------------------------------------------------------------------------------------
def test_it_keeps_up_with_a_run_and_then_has_nothing_to_do(world: Any, look: Look) -> None:
    sink = start(world.home, "trial", world.plan_key, QUIET)
    world.begin().finish(*(key for key in world.stages if "untuned" in key))
    until(lambda: (world.home.path / "mlflow.db").stat().st_size > 0 and ONE in names(world), "the first child run")
    assert look(world).runs[ONE].info.status == "RUNNING"
    world.finish()
    assert drain(sink, WAIT).ok
    assert {run.info.status for run in look(world).runs.values()} == {"FINISHED"}
    assert start(world.home, "trial", world.plan_key, QUIET).process is None, "all of it is logged"
    (world.home.path / "mlflow.db").unlink()
    again = start(world.home, "trial", world.plan_key, QUIET)
    assert again.process is not None, "the database is gone, so all of it is owed again"
    again.process.kill()
    again.process.communicate()


def names(world: Any) -> list[str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{world.home.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("trial")
    return [] if experiment is None else [r.info.run_name for r in client.search_runs([experiment.experiment_id])]


def test_a_run_that_never_planned_leaves_nothing(world: Any) -> None:
    outcome = drain(start(world.home, "trial", world.plan_key, QUIET), WAIT)
    assert not outcome.ok
    assert "ended with code 2" in (outcome.message or "")
    assert "before it planned anything" in log_file(world.home, "trial").read_text()


def test_it_ends_by_itself_when_the_run_is_killed(world: Any, look: Look) -> None:
    world.begin().finish()
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom harness.store.home import Home\n"
        "from harness.tracking import start\n"
        f"sink = start(Home(Path({str(world.home.path)!r})), 'trial', {world.plan_key!r}, os.environ)\n"
        "print(sink.process.pid, flush=True)\ntime.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=QUIET)
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    run.send_signal(signal.SIGKILL)
    run.communicate()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the end of the process")
    assert {r.info.status for r in look(world).runs.values()} == {"FINISHED"}


# --- kills ----------------------------------------------------------------------------------------------------------
class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


WRITES = ("create_run", "log_batch", "log_inputs", "log_text", "log_artifact", "set_terminated", "update_run")


class Dying:
    """An MLflow client that does n writes and dies at the next."""

    def __init__(self, client: Any, n: int) -> None:
        self.client, self.left = client, n

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name not in WRITES:
            return method

        def write(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return method(*args, **kwargs)

        return write


def test_killed_at_any_write_and_run_again_gives_the_same_history(
    world: Any, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    world.document["cells"] = world.document["cells"][:1]
    world.begin().finish("pool", *world.cell_keys(ONE), *(key for key in world.stages if "untuned" in key))
    replay(world.home, "trial", {})
    seen = look(world)
    wanted, inputs = seen.history()[ONE], len(seen.runs[ONE].inputs.dataset_inputs)
    client, killed = mlflow.MlflowClient, 0
    for n in range(100):
        world.rename(f"{n:02}" + "0" * 62)
        world.begin()
        monkeypatch.setattr(mlflow, "MlflowClient", lambda n=n, **kw: Dying(client(**kw), n))
        try:
            replay(world.home, "trial", {})
            break
        except Killed:
            killed += 1
        monkeypatch.setattr(mlflow, "MlflowClient", client)
        assert replay(world.home, "trial", {}) is True
        seen = of_plan(look, world)
        assert seen.history()[ONE] == wanted, f"killed at write {n}"
        assert len(seen.runs) == 2
        assert len(seen.runs[ONE].inputs.dataset_inputs) == inputs
    assert killed > 12, "every write of the parent and of the child was a point of death"


def of_plan(look: Look, world: Any) -> Any:
    return look(world, plan=world.plan_key)


def test_a_killed_process_and_its_successor_write_what_one_would(
    world: Any, new_world: Callable[..., Any], look: Look, tmp_path: Any
) -> None:
    world.begin().finish()
    sink = start(world.home, "trial", world.plan_key, QUIET)
    until(lambda: len(names(world)) >= 3 or gone(sink), "the second child run")
    assert sink.process is not None
    sink.process.kill()
    sink.process.communicate()
    assert drain(start(world.home, "trial", world.plan_key, QUIET), WAIT).ok
    seen = look(world)
    world.rename("undisturbed" + "0" * 53)
    world.begin()
    replay(world.home, "trial", {})
    wanted = of_plan(look, world)
    children = [name for name in wanted.runs if not name.startswith("grid-")]
    assert len(children) == 6
    assert {n: seen.history()[n] for n in children} == {n: wanted.history()[n] for n in children}


# --- outages --------------------------------------------------------------------------------------------------------
def test_an_unreachable_server_is_a_paragraph_and_the_next_run_fills_in(world: Any, look: Look) -> None:
    world.begin().finish()
    uri = nobody_listens().replace("//", "//me:secret@")
    outcome = drain(
        start(
            world.home,
            "trial",
            world.plan_key,
            {**QUIET, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        ),
        WAIT,
    )
    assert not outcome.ok
    message = outcome.message or ""
    assert uri.replace("me:secret", "***") in message
    assert "could not be written" in message
    assert "run the same command to fill in what is missing" in message
    written = message + stamp_file(world.home, "trial", world.plan_key).read_text()
    assert "secret" not in written + log_file(world.home, "trial").read_text()
    stamp = read_stamp(world.home, "trial", world.plan_key)
    assert stamp is not None
    assert not stamp.complete
    lost = world.plan_key
    world.rename("next" + "1" * 60)
    world.begin()
    assert drain(start(world.home, "trial", world.plan_key, QUIET), WAIT).ok
    assert len(look(world, plan=world.plan_key).runs) == 7
    assert len(look(world, plan=lost).runs) == 7, "another plan ran since, and yet the one of the outage is filled in"
    assert start(world.home, "trial", world.plan_key, QUIET).process is None


def test_the_process_says_by_its_exit_code_what_happened(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--home", str(world.home.path), "--experiment", "trial"]
    assert main(where) == 3
    assert "was never run" in capsys.readouterr().err
    world.begin()
    world.home.grid_file("trial").write_text(json.dumps({"experiment": "trial"}))
    assert main(where) == 70
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*where, "--follow"])
    world.begin()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody_listens())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(where) == 4
    assert "The run itself is not touched" in capsys.readouterr().err
