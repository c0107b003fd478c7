"""Whether a server answers, told before anything is paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_server import ChatServer

from harness.config.single import served_models
from harness.engines.served.health import health


def test_a_server_that_answers_and_has_the_model() -> None:
    with ChatServer(models=("judge-1", "other")) as server:
        assert health(server.url, "judge-1", None) == health(server.url, None, None)
        assert health(server.url, "judge-1", None).ok
        wrong = health(server.url, "judge-9", None)
    assert not wrong.ok
    assert wrong.text == "answers, but serves judge-1, other"
    assert server.asked == [], "nothing is paid for a look"


def test_a_server_that_is_not_there() -> None:
    found = health("http://127.0.0.1:9/v1", "judge-1", None)
    assert not found.ok
    assert found.text.startswith("does not answer (")
    assert found.text.endswith("start it before a run")


def test_a_key_that_is_not_exported_is_said_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    found = health("http://127.0.0.1:9/v1", "judge-1", "JUDGE_KEY")
    assert (found.ok, found.text) == (False, "was not asked: its key is not there, export JUDGE_KEY")


def test_the_servers_that_experiments_name_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments"
    folder.mkdir()
    served = "models: {student: pocket/base, judge: {url: 'http://a/v1', model: m, api_key_env: KEY}}\n"
    (folder / "one.yaml").write_text("experiment: one\nrecipes: []\n" + served)
    (folder / "two.yaml").write_text("experiment: two\nrecipes: []\n" + served)
    (folder / "odd.yaml").write_text("experiment: odd\nrecipes: []\nmodels: {judge: {url: 3}, teacher: [}\n")
    own = [(model.url, model.model, model.api_key_env) for model, _ in served_models() if model.url == "http://a/v1"]
    assert own == [("http://a/v1", "m", "KEY")]
