"""Kill it anywhere, run the same command, get the same bytes: real processes, real SIGKILL, on `smoke`."""

from __future__ import annotations

import json
import os
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
    environment = os.environ | {"LOOPBENCH_HOME": str(home), "HF_HUB_OFFLINE": "1"}
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


def wait_for_start(home: Path, run: subprocess.Popen[str], action: str, seen: int) -> bool:
    """Waits until a stage of an action has started after the first `seen` events; False if the run ends before."""
    grid = home / "runs" / "smoke" / "grid.json"
    while run.poll() is None:
        new = [e for e in events(home)[seen:] if e["event"] == "stage_started"]
        stages = json.loads(grid.read_text())["stages"] if grid.exists() and new else {}
        if any(stages[e["key"]]["action"] == action for e in new):
            return True
        time.sleep(0.02)
    return False


def bytes_of(home: Path) -> dict[str, dict[str, str]]:
    """File hashes by artifact, from the manifests."""
    found = {}
    for path in sorted((home / "store").glob("*/*/manifest.json")):
        found[path.parent.name] = json.loads(path.read_text())["files"]
    return found


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    family = psutil.Process(run.pid).children(recursive=True)
    return [p for p in family if "spawn_main" in " ".join(p.cmdline())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The artifacts of a run that nobody disturbed."""
    home = tmp_path_factory.mktemp("whole")
    finish(home)
    return bytes_of(home)


def test_a_killed_coordinator_costs_only_what_was_in_flight(tmp_path: Path, whole: dict[str, dict[str, str]]) -> None:
    killed = []
    for action in ACTIONS:
        seen = len(events(tmp_path))
        with command(tmp_path) as run:
            if not wait_for_start(tmp_path, run, action, seen):
                continue
            children = workers_of(run)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            assert run.returncode == -signal.SIGKILL
            killed.append(action)
            _, alive = psutil.wait_procs(children, timeout=15)
            assert alive == [], "workers outlived their coordinator"
    assert len(killed) >= 6, f"only killed during {killed}"
    finish(tmp_path)
    assert bytes_of(tmp_path) == whole
    finished = [e["key"] for e in events(tmp_path) if e["event"] == "stage_finished"]
    assert len(finished) == len(set(finished)), "a finished stage was done again"


def test_a_killed_worker_is_replaced_and_its_stage_done_again(tmp_path: Path, whole: dict[str, dict[str, str]]) -> None:
    killed = []
    with command(tmp_path) as run:
        for action in ACTIONS:
            if not wait_for_start(tmp_path, run, action, 0):
                break
            for worker in workers_of(run):
                worker.kill()
            killed.append(action)
        output = run.communicate(timeout=600)[0]
    assert run.returncode == 0, output
    assert len(killed) >= 6, f"only killed during {killed}"
    assert any(e["event"] == "stage_retried" and "worker process died" in e["why"] for e in events(tmp_path))
    assert bytes_of(tmp_path) == whole


def test_a_second_run_of_the_same_experiment_is_refused(tmp_path: Path) -> None:
    with command(tmp_path) as first:
        assert wait_for_start(tmp_path, first, "source", 0)
        with command(tmp_path) as second:
            output = second.communicate(timeout=120)[0]
        assert second.returncode == 2
        assert f"experiment smoke is already being worked on by process {first.pid}" in output
        first.send_signal(signal.SIGTERM)
        output = first.communicate(timeout=60)[0]
    assert first.returncode == 143
    assert "finished work is kept, the same command goes on" in output
    assert events(tmp_path)[-1]["event"] == "grid_interrupted"
