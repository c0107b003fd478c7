"""The command that serves MLflow's pages, and a real server: for looking, and as the place that runs are logged to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.errors import UserError
from harness.store.home import Home
from harness.tracking import Ui, drain, start, ui
from harness.tracking.sink import replay

QUIET = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_is_one_light_process_on_this_machine_only(world: Any) -> None:
    port = free_port()
    pages = ui(world.home, {"HOME": "/home/x"}, port)
    words = " ".join(pages.command)
    assert pages.url == f"http://127.0.0.1:{port}"
    assert f"--host 127.0.0.1 --port {port} --workers 1" in words
    assert f"sqlite:///{world.home.path / 'mlflow.db'}" in words
    assert f"--artifacts-destination {world.home.path / 'mlartifacts'}" in words, "and not in the current folder"
    assert pages.env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert pages.env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert pages.env["HOME"] == "/home/x"


def test_a_server_that_runs_already_is_named_without_its_password(world: Any) -> None:
    assert ui(world.home, {"MLFLOW_TRACKING_URI": "https://me:secret@host/x"}) == Ui(url="https://***@host/x")


def test_without_anything_logged_there_is_nothing_to_show(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="nothing was logged yet.*loopbench run quickstart"):
        ui(Home(tmp_path).prepare(), {})
    assert not (tmp_path / "mlflow.db").exists(), "looking creates nothing"


def test_a_port_that_is_taken_is_refused(world: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is taken.*--port {port + 1}"):
            ui(world.home, {}, port)


@contextmanager
def serving(pages: Ui) -> Iterator[str]:
    process = subprocess.Popen(pages.command, env=dict(pages.env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{pages.url}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, "the server ended"
                time.sleep(0.2)
        yield pages.url
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_a_real_server_shows_what_was_logged(world: Any) -> None:
    world.begin().finish()
    replay(world.home, "trial", {})
    with serving(ui(world.home, QUIET, free_port())) as url:
        body = json.dumps({"experiment_ids": ["1"], "filter": "attributes.run_name LIKE 'grid-%'"}).encode()
        ask = urllib.request.Request(
            f"{url}/api/2.0/mlflow/runs/search", body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(ask, timeout=60) as answer:
            (run,) = json.loads(answer.read())["runs"]
        where = urllib.parse.urlencode({"run_uuid": run["info"]["run_id"], "path": "config.yaml"})
        with urllib.request.urlopen(f"{url}/get-artifact?{where}", timeout=60) as answer:
            assert b"experiment: trial" in answer.read()


@pytest.mark.slow
def test_a_real_server_is_written_to_and_an_outage_in_the_middle_is_made_good(
    world: Any, look: Callable[..., Any], new_world: Callable[..., Any], tmp_path: Any
) -> None:
    server = new_world(tmp_path / "server")
    pages = ui(server.home, QUIET, free_port())
    there = {**QUIET, "MLFLOW_TRACKING_URI": pages.url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    world.begin().finish("pool", *world.cell_keys("all-data/student/s0"))
    with serving(pages):
        assert drain(start(world.home, "trial", world.plan_key, there), 120).ok
    world.finish()
    outcome = drain(start(world.home, "trial", world.plan_key, there), 120)
    assert not outcome.ok
    assert pages.url in (outcome.message or "")
    with serving(pages):
        assert drain(start(world.home, "trial", world.plan_key, there), 120).ok
        assert start(world.home, "trial", world.plan_key, there).process is None
        over_http = look(world, pages.url)
        seen = over_http.history()
        assert "items/test/pocket/iteration-1.json" in over_http.artifacts("all-data/student/s0")
    replay(world.home, "trial", {})
    assert look(world).history() == seen, "the same experiment in a database of its own has the same points"
