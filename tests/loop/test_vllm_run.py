"""A whole experiment through a real vLLM: Magpie, scoring, training, evaluation; and its process killed midway."""

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
from vllm_support import NEEDED, WHY

pytestmark = [pytest.mark.skipif(not NEEDED, reason=WHY), pytest.mark.slow, pytest.mark.timeout(1800)]
TEXT = """
experiment: through-vllm
models:
  student: {path: pocket/base, engine: vllm, options: {kv_cache_memory_bytes: 268435456}}
  teacher: {path: pocket/chat, engine: vllm, options: {kv_cache_memory_bytes: 268435456}}
  judge: pocket/oracle
data: {pool: {use: pocket/defects, options: {rows: 60}}}
recipes:
  - recipe: magpie-small
    loop: {iterations: 1}
    steps:
      - {synthesize: magpie, model: teacher, rows: 64, max_tokens: 96, response_max_tokens: 96}
      - {score: ifd, model: student}
      - {finetune: sft}
suites: [{suite: pocket, count: 40, dev_count: 20}]
seeds: 1
train: {learning_rate: 2e-3, epochs: 2}
"""


def started(home: Path, file: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"LOOPBENCH_HOME": str(home), "HF_HUB_OFFLINE": "1", "LOOPBENCH_SHARD": "16"}
    arguments = [sys.executable, "-m", "harness", "run", str(file), "--no-tracking", "--workers", "1"]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(run: subprocess.Popen[str]) -> str:
    output = run.communicate(timeout=900)[0]
    assert run.returncode == 0, output
    return output


def manifests(home: Path) -> dict[str, dict[str, Any]]:
    found = (json.loads(path.read_text()) for path in sorted((home / "store").glob("*/*/manifest.json")))
    return {manifest["key"]: manifest for manifest in found}


def events(home: Path, kind: str) -> list[dict[str, Any]]:
    lines = (home / "journal" / "through-vllm.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def hosts(run: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        family = psutil.Process(run.pid).children(recursive=True)
        return [p for p in family if "harness.engines.vllm.host" in " ".join(p.cmdline())]
    except psutil.NoSuchProcess:
        return []


def killed_at_work(run: subprocess.Popen[str], home: Path) -> int:
    """Kills the first vLLM process that has shards behind it and others to come; returns its number."""
    while run.poll() is None:
        begun = list((home / "tmp").glob("*/shards/*")) or list(home.glob("**/shards/*"))
        if begun and (found := hosts(run)):
            found[0].send_signal(signal.SIGKILL)
            return found[0].pid
        time.sleep(0.02)
    pytest.fail("the run was over before a shard was seen")


def test_a_run_through_vllm_and_the_same_with_its_process_killed(tmp_path: Path) -> None:
    file = tmp_path / "through-vllm.yaml"
    file.write_text(TEXT)
    with started(tmp_path / "whole", file) as run:
        output = finished(run)
    assert "0 failed" in output
    whole = manifests(tmp_path / "whole")
    told = [m["engines"] for m in whole.values() if m["engines"]]
    assert {about["engine"] for engines in told for about in engines.values()} == {"vllm"}
    rows = next(m for m in whole.values() if m["action"] == "synthesize")
    assert rows["rows"] > 32  # most of what the aligned teacher writes is a question with an answer
    tuned = [m for m in whole.values() if m["action"] == "answer" and m["rows"]]
    assert len(tuned) >= 2

    with started(tmp_path / "killed", file) as run:
        pid = killed_at_work(run, tmp_path / "killed")
        output = finished(run)
    assert not psutil.pid_exists(pid)
    assert "ended (killed by SIGKILL); finished rows are kept" in output
    again = manifests(tmp_path / "killed")
    assert again.keys() == whole.keys()
    assert {k: m["files"] for k, m in again.items()} == {k: m["files"] for k, m in whole.items()}
