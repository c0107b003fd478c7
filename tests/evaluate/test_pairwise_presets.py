"""The shipped pairwise suites: what they ask, with which judge, on which files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import config
from harness.blocks import registry
from harness.evaluate import selfcheck
from harness.evaluate.arena_hard import ArenaHard
from harness.evaluate.pairwise import Pairwise
from harness.judges.annotator import Annotator
from harness.judges.arena import Arena


@pytest.fixture(autouse=True)
def data(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_DATA", str(real_data))


@pytest.mark.parametrize(("name", "annotator"), [
    ("alpaca-eval-1", "alpaca_eval_gpt4"),
    ("alpaca-eval", "weighted_alpaca_eval_gpt4_turbo"),
    ("alpaca-eval-lc", "weighted_alpaca_eval_gpt4_turbo"),
])  # fmt: skip
def test_alpaca_eval_is_asked_in_its_own_order_with_its_own_annotator(name: str, annotator: str) -> None:
    suite = config.load_suite(name, registry)
    assert isinstance(suite.block, Pairwise)
    assert isinstance(suite.judge, Annotator)
    assert (suite.block.orders, suite.judge.config, suite.judge.fallback) == ("one", annotator, "missing")
    assert suite.judge.identity_options()["prompt_sha256"] == suite.judge.prompt_sha256
    assert len(suite.block.items("test")) == 805
    assert (suite.block.regulariser_path is not None) == (name == "alpaca-eval-lc")


def test_arena_hard_names_its_files_with_checksums() -> None:
    suite = config.load_suite("arena-hard", registry)
    assert isinstance(suite.block, ArenaHard)
    assert isinstance(suite.judge, Arena)
    assert (suite.block.baseline, suite.block.strong_weight) == ("gpt-4-0314", 3.0)
    files = (suite.block.questions, suite.block.answers, suite.judge.prompts)
    assert all(file is not None and file.sha256 for file in files)
    assert len(suite.block.fingerprint("test")) == 64, "known from the checksums, without a download"


def test_alpaca_eval_proves_itself() -> None:
    block = config.load_suite("alpaca-eval", registry).block.model_copy(update={"limit": 60})
    checks = {check.name: check for check in selfcheck(block)}
    assert checks["gold"].value == 0.5
    assert all(check.passed for check in checks.values())
