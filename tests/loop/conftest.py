"""A small experiment that tests may vary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import api
from harness.loop.plan import Plan

EXPERIMENT = """
experiment: small
models: {student: pocket/base, teacher: pocket/chat, judge: pocket/oracle}
data: {pool: {use: pocket/defects, options: {rows: 32}}}
suites: [{use: pocket, count: 8, dev_count: 8}]
baseline: RECIPE
train: {learning_rate: 1e-3, epochs: 1}
recipes:
"""

Make = Callable[..., Plan]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Plans recipes given as YAML texts (the first is the baseline)."""
    monkeypatch.chdir(tmp_path)

    def plan(*recipes: str, overrides: tuple[str, ...] = ()) -> Plan:
        first = recipes[0].split("recipe: ")[1].split("\n")[0]
        text = EXPERIMENT.replace("RECIPE", first)
        for recipe in recipes:
            lines = recipe.strip("\n").splitlines()
            text += "  - " + "\n    ".join(lines) + "\n"
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return api.plan(str(path), overrides)

    return plan
