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


GREEDY = """
experiment: through-{engine}
models:
  student: {{path: pocket/base, engine: {engine}, device: cpu, dtype: float32, options: {options}}}
  teacher: {{path: pocket/chat, engine: {engine}, device: cpu, dtype: float32, options: {options}}}
  judge: pocket/oracle
data: {{pool: {{use: pocket/clean, options: {{rows: 64}}}}}}
recipes:
  - recipe: magpie-greedy
    loop: {{iterations: 1}}
    steps:
      - synthesize: magpie
        as: written
        model: teacher
        rows: 8
        top_p: 1e-9                # a nucleus of one token is greedy; each subject gives another conversation
        domains: [writing, roleplay, reasoning, math, coding, extraction, stem, humanities]
        turns: 2
        max_tokens: 96
        response_max_tokens: 96
      - {{finetune: sft, from: [written, pool]}}
suites: [{{suite: pocket, count: 60, dev_count: 8, temperature: 0}}]
seeds: 1
train: {{learning_rate: 2e-3, epochs: 2}}
"""
EQUAL = 0.98
"""Share of answers that must be the same letter by letter: two tokens may nearly tie, engines sum in other orders."""


def texts(home: Path) -> dict[str, dict[str, str]]:
    """What each stage wrote, by its label and row or item: Magpie's conversations, dropped ones too, and answers."""
    import pandas as pd

    found: dict[str, dict[str, str]] = {}
    for manifest in manifests(home).values():
        folder, label = home / "store" / manifest["kind"] / manifest["key"], manifest["label"]
        if manifest["action"] == "synthesize":
            table = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
            rows = [
                name.partition("/")[2] for name in table["id"]
            ]  # before that, a hash of the options, the engine's too
            found[label] = dict(zip(rows, table["messages"], strict=True))
        if manifest["action"] == "answer":
            table = pd.read_parquet(folder / "answers.parquet")
            said = [json.dumps(list(outputs)) for outputs in table["outputs"]]
            found[label] = dict(zip(table["item"], said, strict=True))
    return found


def written(folder: Path, engine: str, options: str) -> dict[str, dict[str, str]]:
    """The texts of the greedy experiment by one engine, which is the only one that its stages were asked of."""
    file, home = folder / f"{engine}.yaml", folder / engine
    file.write_text(GREEDY.format(engine=engine, options=options))
    with started(home, file) as run:
        finished(run)
    told = [
        about for m in manifests(home).values() if m["action"] != "finetune" for about in (m["engines"] or {}).values()
    ]
    assert {(about["engine"], about["dtype"]) for about in told} == {(engine, "float32")}
    return texts(home)


def test_magpie_and_evaluation_give_the_texts_of_the_transformers_engine(tmp_path: Path) -> None:
    ours = written(tmp_path, "transformers", "{}")
    vllm = written(tmp_path, "vllm", "{kv_cache_memory_bytes: 268435456}")
    assert vllm.keys() == ours.keys()
    magpie = next(label for label in ours if label.endswith("written"))
    assert len(set(ours[magpie].values())) == 8
    assert vllm[magpie] == ours[magpie]
    answers = [label for label in ours if label != magpie]
    assert [sum(word in label for label in answers) for word in ("untuned", "magpie-greedy")] == [1, 1]
    for label in answers:
        assert vllm[label].keys() == ours[label].keys()
        same = [vllm[label][item] == text for item, text in ours[label].items()]
        print(f"{label}: {sum(same)} of {len(same)} texts equal")
        assert len(set(ours[label].values())) > 20, "a model that says the same to everything would prove nothing"
        assert sum(same) / len(same) >= EQUAL
