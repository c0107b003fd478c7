"""A small suite of pairs, one of two turns, and files of answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.blocks import registry
from harness.config.model import SuiteRef
from harness.config.single import load_suite

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(name, rows)`: a JSON list, or JSON lines where the name has jsonl; `.gz` packs. Text is written as is."""

    def made(name: str, rows: Any) -> str:
        lines = "jsonl" in name
        text = (
            rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
        )
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(tmp_path / name)

    return made


@pytest.fixture
def pairs(write: Write) -> SuiteRef:
    """Six instructions with reference outputs; no judge of its own."""
    rows = [{"instruction": f"task {i}", "output": f"reference {i}", "dataset": "ab"[i % 2]} for i in range(6)]
    source = write("reference.json", rows)
    return load_suite(write("pairs.yaml", f"suite: pairwise\npath: {source}\norders: one\n"), registry)


@pytest.fixture
def words(write: Write) -> SuiteRef:
    """Eight questions of GSM8K's form, graded by lm-eval."""
    rows = [{"question": f"How much is {i}?", "answer": f"It is {i}.\n#### {i}"} for i in range(8)]
    source = write("questions.json", rows)
    text = f"suite: lm_eval\ntask: gsm8k\ntest_path: {source}\nfewshot: 0\nnumeric: true\n"
    return load_suite(write("words.yaml", text), registry)


@pytest.fixture
def pocket_turns(write: Write) -> SuiteRef:
    """Eight pocket questions of two turns."""
    return load_suite(write("turns.yaml", "suite: pocket\ncount: 8\nturns: 2\n"), registry)
