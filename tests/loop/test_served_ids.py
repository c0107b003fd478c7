"""Served models that take token ids, in a plan and before a run: what they are refused for, and by whom it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Sent, completion

from harness import api
from harness.errors import UserError
from harness.loop.capable import check_keys
from harness.loop.plan import Plan
from harness.loop.provenance import provenance

TEXT = """
experiment: ids
models:
  student: pocket/base
  teacher: {url: "URL", model: judge-1, prompts: pocket, tokenizer: TOKENIZER}
  judge: pocket/oracle
data: {pool: {use: pocket/defects, options: {rows: 16}}}
suites: [{use: pocket, count: 8, dev_count: 4, max_tokens: 24}]
recipes:
  - recipe: taught
    steps:
      - STEP
      - {finetune: sft}
"""
IFD = "{score: ifd, model: teacher}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))


def plan(folder: Path, url: str, step: str = IFD, tokenizer: str = "pocket/chat") -> Plan:
    text = TEXT.replace("URL", url).replace("STEP", step).replace("TOKENIZER", tokenizer)
    (folder / "ids.yaml").write_text(text.replace(", tokenizer: none", ""))
    return api.plan(str(folder / "ids.yaml"))


def poor(body: Any, number: int) -> Sent:
    """Takes ids, but gives no log-probabilities of prompts."""
    return completion([7], prompt=body["prompt"])


def test_with_a_tokenizer_a_server_is_planned_for_what_needs_ids(tmp_path: Path) -> None:
    for step in (IFD, "{synthesize: magpie, model: teacher, rows: 4}"):
        assert plan(tmp_path, "http://127.0.0.1:9/v1", step).stages
    with pytest.raises(
        UserError, match=r"or a server such as `vllm serve`, with `tokenizer: FOLDER` beside its `url:`"
    ):
        plan(tmp_path, "http://127.0.0.1:9/v1", tokenizer="none")
    with pytest.raises(UserError, match="for its weights, to train from, and .* is a served model that cannot"):
        plan(tmp_path, "http://127.0.0.1:9/v1", "{finetune: sft, start: teacher}")


def test_the_tokenizer_is_part_of_the_key(tmp_path: Path) -> None:
    def keys(tokenizer: str) -> set[str]:
        planned = plan(tmp_path, "http://127.0.0.1:9/v1", "{synthesize: respond, model: teacher}", tokenizer)
        return {key for key, stage in planned.stages.items() if stage.action == "synthesize"}

    assert keys("pocket/chat") != keys("none")


def test_before_a_run_a_server_is_asked_and_refused_for_what_it_lacks(tmp_path: Path) -> None:
    with ChatServer(poor) as server:
        made = plan(tmp_path, server.url)
        with pytest.raises(UserError) as caught:
            check_keys(made.stages.values())
    said = str(caught.value)
    assert "ifd asks the model bound to 'teacher' for the log-probabilities of given texts" in said
    assert "(its completions come without those of the prompt (`prompt_logprobs`))" in said
    assert len(server.asked) == 2, "nothing else was asked"
    (kept,) = (tmp_path / "home" / "served").glob("*.json")
    assert json.loads(kept.read_text())["ids"]
    with pytest.raises(UserError, match="without those of the prompt"):
        plan(tmp_path, server.url)
    assert len(server.asked) == 2, "a plan asks nothing: it reads what was kept"


def test_what_a_server_offers_stands_in_the_manifests_of_its_stages(tmp_path: Path) -> None:
    with ChatServer(poor, context=513) as server:
        made = plan(tmp_path, server.url, "{synthesize: respond, model: teacher}")
        stage = next(stage for stage in made.stages.values() if stage.action == "synthesize")
        check_keys([stage])
    about = provenance(stage)["engines"]["teacher"]
    assert about["engine"] == "openai"
    assert about["offers"]["ids"]
    assert not about["offers"]["logprobs"]
    assert about["offers"]["context"] == 513
