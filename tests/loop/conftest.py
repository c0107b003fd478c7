"""A small experiment that tests may vary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.loop.plan import Plan
from harness.loop.stage import Stage
from harness.store.artifacts import Store
from harness.store.home import Home

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


class Instant:
    """An executor whose stages are done at once, without work, but for what `faults` says of them by label."""

    def __init__(self, faults: Mapping[str, tuple[str, str]] | None = None) -> None:
        self.faults = dict(faults or {})
        self.sent: list[list[str]] = []

    def __call__(self, home: Home, workers: int) -> Instant:
        self.store, self.waiting = Store(home), list[tuple[Any, ...]]()
        return self

    def free(self) -> list[int]:
        return [] if self.waiting else [0]

    def last_model(self, place: int) -> str | None:
        return None

    def submit(self, place: int, stages: Sequence[Stage]) -> int:
        self.sent.append([stage.label for stage in stages])
        for stage in stages:
            fault = self.faults.get(stage.label)
            if fault is not None:
                self.waiting.append(("failed", stage.key, *fault, ""))
            else:
                self.store.work(stage.kind, stage.key)
                manifest = self.store.commit(stage.kind, stage.key, (), {"rows": 0})
                self.waiting.append(("done", stage.key, manifest))
        return 1

    def events(self, timeout: float) -> Iterator[tuple[Any, ...]]:
        found, self.waiting = self.waiting, []
        yield from found

    def close(self, kill: bool = False) -> None:
        pass
