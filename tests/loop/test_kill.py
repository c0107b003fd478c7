"""Kill it anywhere, run the same command, get the same bytes: real processes, real SIGKILL, on `smoke`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ACTIONS = ("source", "synthesize", "score", "select", "pair", "finetune", "answer", "grade")


def command(home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"LOOPBENCH_HOME": str(home), "HF_HUB_OFFLINE": "1", "LOOPBENCH_SHARD": "8"}
    arguments = [sys.executable, "-m", "harness", "run", "smoke", "--no-tracking", "--workers", "2"]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(home: Path) -> str:
    with command(home) as run:
        output = run.communicate(timeout=600)[0]
    assert run.returncode == 0, output
    return output


def events(home: Path) -> list[dict[str, Any]]:
    path = home / "journal" / "smoke.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def next_start(home: Path, run: subprocess.Popen[str], wanted: set[str], seen: int) -> dict[str, Any] | None:
    """Waits for the first start, after `seen` events, of a stage of a wanted action; None if the run ends before."""
    while True:
        over = run.poll() is not None
        for event in events(home)[seen:]:
            if event["event"] == "stage_started" and event["action"] in wanted:
                return event
        if over:
            return None
        time.sleep(0.01)


def bytes_of(home: Path) -> dict[str, dict[str, str]]:
    """File hashes by artifact, from the manifests."""
    found = {}
    for path in sorted((home / "store").glob("*/*/manifest.json")):
        found[path.parent.name] = json.loads(path.read_text())["files"]
    return found


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """Workers, however they were started, with the server that they may be forks of."""
    family = psutil.Process(run.pid).children(recursive=True)
    return [p for p in family if re.search("spawn_main|forkserver", " ".join(p.cmdline()))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The artifacts of a run that nobody disturbed."""
    home = tmp_path_factory.mktemp("whole")
    finish(home)
    return bytes_of(home)


def test_a_killed_coordinator_costs_only_what_was_in_flight(tmp_path: Path, whole: dict[str, dict[str, str]]) -> None:
    wanted = set(ACTIONS)
    while wanted:
        seen = len(events(tmp_path))
        with command(tmp_path) as run:
            event = next_start(tmp_path, run, wanted, seen)
            assert event is not None, f"no stage of {wanted} was started"
            children = workers_of(run)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            assert run.returncode == -signal.SIGKILL
            wanted.discard(event["action"])
            _, alive = psutil.wait_procs(children, timeout=60)
            assert alive == [], "workers outlived their coordinator"
    finish(tmp_path)
    assert bytes_of(tmp_path) == whole
    finished = [e["key"] for e in events(tmp_path) if e["event"] == "stage_finished"]
    assert len(finished) == len(set(finished)), "a finished stage was done again"


def test_a_killed_worker_is_replaced_and_its_stage_done_again(tmp_path: Path, whole: dict[str, dict[str, str]]) -> None:
    wanted, seen = set(ACTIONS), 0
    with command(tmp_path) as run:
        while wanted and (event := next_start(tmp_path, run, wanted, seen)) is not None:
            seen = events(tmp_path).index(event) + 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(event["pid"], signal.SIGKILL)
            wanted.discard(event["action"])
        output = run.communicate(timeout=600)[0]
    assert run.returncode == 0, output
    assert not wanted
    retried = [e for e in events(tmp_path) if e["event"] == "stage_retried"]
    assert len(retried) >= len(ACTIONS) - 2, "hardly a kill hit a stage in work"
    assert all("worker process died (exit code -9)" in e["why"] for e in retried)
    assert bytes_of(tmp_path) == whole


def test_a_second_run_of_the_same_experiment_is_refused(tmp_path: Path) -> None:
    with command(tmp_path) as first:
        assert next_start(tmp_path, first, {"source"}, 0) is not None
        with command(tmp_path) as second:
            output = second.communicate(timeout=120)[0]
        assert second.returncode == 2
        assert f"experiment smoke is already being worked on by process {first.pid}" in output
        first.send_signal(signal.SIGTERM)
        output = first.communicate(timeout=60)[0]
    assert first.returncode == 143
    assert "finished work is kept, the same command goes on" in output
    assert events(tmp_path)[-1]["event"] == "grid_interrupted"
