"""Whole runs with a served judge and teacher: killed, refused, out of money, and always without the key in any file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from chat_server import ChatServer, Sent, answer, error

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KEY = "sk-live-0123456789abcdefghij"
ITEMS, TAUGHT = 24, 4
CALLS = ITEMS + ITEMS + TAUGHT
"""Answers, verdicts and taught rows."""
EXPERIMENT = """
experiment: judged
models:
  student: {url: URL, model: judge-1, api_key_env: JUDGE_KEY, prices: {prompt: 10, completion: 20}}
  teacher: {url: URL, model: judge-1, api_key_env: JUDGE_KEY, prices: {prompt: 10, completion: 20}}
  judge: {url: URL, model: judge-1, api_key_env: JUDGE_KEY, prices: {prompt: 10, completion: 20}, concurrency: 2,
          deadline: 240, timeout: 120}
data: {pool: {use: pocket/defects, options: {rows: 16}}}
sentinels: {answers: 0}
suites: [{use: pocket, count: ITEMS, max_tokens: 24}]
recipes:
  - recipe: taught
    steps:
      - {select: sample, keep: 4}
      - {synthesize: respond, model: teacher, max_tokens: 24}
"""


def judge(body: Mapping[str, Any], number: int) -> Sent:
    return answer(f"Rating: [[7]] {len(server_text(body))}", tokens=(100, 10))


def server_text(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def start(folder: Path, server: ChatServer, *more: str, key: str | None = KEY) -> subprocess.Popen[str]:
    file = folder / "judged.yaml"
    file.write_text(EXPERIMENT.replace("URL", server.url).replace("ITEMS", str(ITEMS)))
    kept = {name: value for name, value in os.environ.items() if name != "JUDGE_KEY"}
    environment = kept | {"LOOPBENCH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    environment |= {} if key is None else {"JUDGE_KEY": key}
    command = [sys.executable, "-m", "harness", "run", str(file), "--workers", "1", *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(folder: Path, server: ChatServer, *more: str, key: str | None = KEY) -> tuple[int, str]:
    with start(folder, server, "--no-tracking", *more, key=key) as process:
        said = process.communicate(timeout=300)[0]
    return process.returncode, said


def prompts(server: ChatServer) -> Counter[str]:
    return Counter(json.dumps(body["messages"]) for body in server.asked)


def no_key_in(folder: Path, *said: str) -> None:
    for text in said:
        assert KEY not in text
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert KEY.encode() not in path.read_bytes(), path


def spent(folder: Path) -> float:
    from harness.store.home import Home
    from harness.store.spent import Ledger

    return Ledger(Home(folder / "home").spent_file("judged")).spent().usd


def test_a_wrong_key_then_no_money_then_done_and_nothing_twice(tmp_path: Path) -> None:
    with ChatServer(lambda body, number: error(401, f"bad key {KEY}")) as server:
        code, none = run(tmp_path, server, key=None)
        assert (code, server.asked) == (2, [])
        assert "the key for judge-1 at" in none
        assert "export JUDGE_KEY" in none
        code, wrong = run(tmp_path, server)
        assert code == 4
        assert "the key in JUDGE_KEY is wrong, expired or may not use it" in " ".join(wrong.split())
        server.behave = judge
        server.asked.clear()
        code, poor = run(tmp_path, server, "--set", "limits.usd=0.06")
        assert code == 4
        assert "limits.usd is 0.06" in " ".join(poor.split())
        bought = len(server.asked)
        assert 0 < bought < CALLS
        assert spent(tmp_path) == pytest.approx(bought * 0.0012)
        code, rich = run(tmp_path, server, "--set", "limits.usd=5")
        assert code == 0, rich
        assert max(prompts(server).values()) == 1
        assert len(server.asked) == CALLS
        code, again = run(tmp_path, server)
        assert code == 0, again
        assert len(server.asked) == CALLS
    assert spent(tmp_path) == pytest.approx(CALLS * 0.0012)
    no_key_in(tmp_path, none, wrong, poor, rich, again)


@pytest.mark.parametrize("whom", ["worker", "coordinator"])
def test_a_killed_run_pays_for_no_finished_verdict_again(tmp_path: Path, whom: str) -> None:
    def slow(body: Mapping[str, Any], number: int) -> Sent:
        time.sleep(0.1)
        return judge(body, number)

    with ChatServer(slow) as server:
        with start(tmp_path, server, "--no-tracking") as process:
            while len(server.asked) < ITEMS + TAUGHT + 8:  # some verdicts are there
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.02)
            family = psutil.Process(process.pid).children(recursive=True)
            workers = [p for p in family if re.search("spawn_main|forkserver", " ".join(p.cmdline()))]
            for victim in workers if whom == "worker" else [psutil.Process(process.pid)]:
                os.kill(victim.pid, signal.SIGKILL)
            process.communicate(timeout=300)
            psutil.wait_procs(workers, timeout=60)
        code, said = run(tmp_path, server)
        assert code == 0, said
        asked = prompts(server)
    assert len(asked) == CALLS
    assert asked.total() <= CALLS + 32, "more than the calls in flight were made again"


def test_the_tracker_never_learns_the_key(tmp_path: Path) -> None:
    with ChatServer(judge) as server, start(tmp_path, server) as process:
        said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert (tmp_path / "home" / "mlflow.db").exists()
    assert any((tmp_path / "home" / "replies").rglob("*.json"))
    no_key_in(tmp_path, said)
