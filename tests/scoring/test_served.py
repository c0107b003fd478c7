"""A judge behind a real HTTP server: nothing is asked twice, an unreadable verdict is missing, no key is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Sent, answer

from harness.blocks import registry
from harness.config.model import SuiteRef
from harness.config.single import load_judge
from harness.errors import UserError
from harness.scoring import score
from harness.store.home import Home

from .conftest import Write

KEY = "sk-live-0123456789abcdefghij"


def behave(body: Mapping[str, Any], number: int) -> Sent:
    """A judge that likes any answer better than a reference, and will not say about task 5."""
    asked = body["messages"][-1]["content"]
    if "task 5" in asked:
        return answer("Both are fine.")
    first = asked.find("mine")
    return answer("[[A]]" if 0 <= first < asked.find("reference ") else "[[B]]", tokens=(100, 10))


def test_a_served_judge(
    pairs: SuiteRef, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    rows = [{"id": i, "output": f"mine {i}"} for i in range(6)]
    with ChatServer(behave) as server:
        text = f"url: {server.url}\nmodel: judge-1\napi_key_env: JUDGE_KEY\ndeadline: 60\ntimeout: 20\n"
        judge = load_judge(write("judge.yaml", text), registry)
        monkeypatch.delenv("JUDGE_KEY", raising=False)
        with pytest.raises(UserError, match="JUDGE_KEY"):
            score(pairs, [write("o.jsonl", rows)], judge=judge, home=home)
        monkeypatch.setenv("JUDGE_KEY", KEY)

        found = score(pairs, [write("o.jsonl", rows)], judge=judge, home=home).scoring.sources[0]
        assert (found.figure("win").value, found.figure("win").n, found.figure("win").missing) == (1.0, 6, 1)
        assert found.missing == {"the verdict cannot be read": 1}
        assert found.judge is not None
        assert found.judge["model"]
        asked = len(server.asked)
        assert asked == 6

        again = score(pairs, [write("o.jsonl", rows)], judge=judge, home=home).scoring.sources[0]
        assert again.figures == found.figures
        assert len(server.asked) == asked

        changed = [
            *rows[:5],
            {"id": 5, "output": "reference 5"},
        ]
        third = score(pairs, [write("p.jsonl", changed)], judge=judge, home=home).scoring.sources[0]
        assert third.figure("win").missing == 0
        assert len(server.asked) == asked, "identical outputs draw, and the other five were answered before"
    for path in (path for path in home.path.rglob("*") if path.is_file()):
        assert KEY.encode() not in path.read_bytes(), path
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
