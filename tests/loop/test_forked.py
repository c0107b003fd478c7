"""Workers as forks: libraries are imported once, the server runs nothing on threads, nothing outlives the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.loop import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server is used on Linux only")

SCRIPT = """
import json, os, sys, time
from harness.loop import forked

def look(connection):
    import torch
    from harness.lifeline import tie_to
    tie_to(os.getppid())
    threads = [open(f"/proc/{os.getppid()}/task/{t}/comm").read() for t in os.listdir(f"/proc/{os.getppid()}/task")]
    environment = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "LOOPBENCH_WORKER_SERVER")}
    connection.send({"trl": "trl.trainer.sft_trainer" in sys.modules, "server_threads": threads,
                     "server": os.getppid(), "pid": os.getpid(), "torch_threads": torch.get_num_threads(),
                     "seconds": sys.modules["harness.loop.preload"].seconds, **environment})
    time.sleep(600 if "stay" in sys.argv else 0)

if __name__ == "__main__":
    forked.begin(1)
    assert "torch" not in sys.modules
    assert "LOOPBENCH_WORKER_SERVER" not in os.environ
    ours, theirs = (context := forked.context(1)).Pipe()
    process = context.Process(target=look, args=(theirs,))
    process.start()
    print(json.dumps(ours.recv() | {"method": context.get_start_method()}), flush=True)
    process.join()
"""


def environment() -> dict[str, str]:
    without = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return without | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}


def test_a_fork_has_the_libraries_and_dies_with_the_coordinator(tmp_path: Path) -> None:
    (tmp_path / "coordinator.py").write_text(SCRIPT)
    command = [sys.executable, "coordinator.py", "stay"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        told = json.loads(run.stdout.readline())
        family = [psutil.Process(told[name]) for name in ("server", "pid")]
        os.kill(run.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert told["method"] == "forkserver"
    assert told["trl"]
    assert told["seconds"] > 0
    own = [name.strip() for name in told["server_threads"] if "jemalloc" not in name]
    assert len(own) == 1, "a fork of a process with threads is not sound (jemalloc's own survives one)"
    assert (told["OMP_NUM_THREADS"], told["torch_threads"]) == ("1", 1)


def test_with_cuda_devices_or_another_environment_workers_are_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "_begun", {})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert forked.possible()
    monkeypatch.setattr(forked, "_begun", dict(os.environ))
    assert forked.possible()
    monkeypatch.setenv("SOME_LIBRARYS_SETTING", str(time.time()))
    assert not forked.possible()
    monkeypatch.setattr(forked, "_begun", {})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert not forked.possible()
    assert forked.context(1).get_start_method() == "spawn"
