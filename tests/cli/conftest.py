"""Running the real command, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXPERIMENT = """\
experiment: tiny
models: {student: pocket/base, judge: pocket/oracle}
data:
  pool: {use: pocket/defects, options: {rows: 24}}
recipes:
  - recipe: first
    steps:
      - {select: sample, keep: 8, as: drawn}
      - {finetune: sft}
suites: [{use: pocket, count: 8, dev_count: 8, max_tokens: 8}]
baseline: first
train: {learning_rate: 1e-3, epochs: 1}
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def loopbench(tmp_path: Path) -> Run:
    """`loopbench(*arguments, **environment)`, in a folder that holds `tiny.yaml`."""
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "LOOPBENCH_HOME": str(tmp_path / "home"), **environment}
        command = [sys.executable, "-m", "harness", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=280)

    return run
