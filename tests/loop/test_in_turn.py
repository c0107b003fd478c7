"""Blocks whose items need what the items before them made: one by one, and resumed to the same bytes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.config.model import Dataset
from harness.engines.base import Completion
from harness.loop import shards
from harness.loop.drive import Desk
from harness.loop.job import Job
from harness.records import table
from harness.store.artifacts import Store
from harness.synthesize.self_instruct import SelfInstruct

from .test_columns import HASHED, stages

BLOCK = SelfInstruct(rows=9, batch=2, per_prompt=2)


class Writer(Desk):
    """Two proposals per prompt, which depend on what the prompt shows; stops at a given request."""

    asked = 0
    stop_at: int | None = None

    def replies(self, asks: Sequence[tuple[str, Any]]) -> list[Any]:
        return [self._reply(ask) for _, ask in asks]

    def _reply(self, ask: Any) -> Any:
        if Writer.asked == Writer.stop_at:
            raise KeyboardInterrupt
        Writer.asked += 1
        text = ask.messages[-1]["content"]
        mark = abs(ask.fixed_seed) % 10**6
        shown = text.count("tell")
        said = f"1. tell x{mark} y{mark} z{mark} {shown}\n2. show u{mark} v{mark} w{mark} {shown}"
        done = Completion(
            request_id="r", draw=0, text=said if "Come up" in text or "\n1. " in text else f"so be it {mark}",
            token_ids=(1,), finish="length" if mark % 5 == 0 else "stop", prompt_tokens=1,
        )  # fmt: skip
        return (done,)


@pytest.fixture
def seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(Job, "desk", lambda job, context: Writer(pytest.fail, context))
    monkeypatch.setattr(Writer, "asked", 0)
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"seed {n} asks for thing {n}", "completion": "so"}) + "\n" for n in range(8))
    )
    return Dataset(name="rows", path=str(path))


def files(store: Store, key: str) -> dict[str, bytes]:
    return {name: (store.path("rows", key) / name).read_bytes() for name in ("rows.parquet", "dropped.parquet")}


def test_a_stopped_stage_goes_on_with_its_round_and_gives_the_same_bytes(
    tmp_path: Path, seeds: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, done = stages(tmp_path / "whole", seeds, BLOCK, model=HASHED)
    key, asked = done[-1].key, Writer.asked
    whole, report = files(store, key), store.manifest("rows", key)["report"]
    assert len(list(table.read(store.path("rows", key) / "rows.parquet"))) > 4
    attempts = 0
    monkeypatch.setattr(Writer, "stop_at", 7)
    while attempts < 20:
        attempts += 1
        monkeypatch.setattr(Writer, "asked", 0)
        with contextlib.suppress(KeyboardInterrupt):
            store, _ = stages(tmp_path / "stopped", seeds, BLOCK, model=HASHED)
            break
    assert asked // 7 <= attempts < 20, "each attempt finishes the round that it begins with"
    assert Writer.asked <= 7
    assert files(store, key) == whole
    assert store.manifest("rows", key)["report"] == report


def test_rounds_after_the_last_wanted_row_are_not_worked_on(
    tmp_path: Path, seeds: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There could be 18 rounds; once the nine rows are there none is begun or saved any more, and no row is another."""
    saved: list[str] = []
    monkeypatch.setattr(shards, "_save", lambda path, result: saved.append(path.name))
    store, done = stages(tmp_path / "ends", seeds, BLOCK, model=HASHED)
    ends, report, begun = files(store, done[-1].key), store.manifest("rows", done[-1].key)["report"], len(saved)
    monkeypatch.setattr(SelfInstruct, "enough", lambda block, context: False)
    saved.clear()
    store, done = stages(tmp_path / "all", seeds, BLOCK, model=HASHED)
    assert files(store, done[-1].key) == ends
    assert store.manifest("rows", done[-1].key)["report"] == report
    assert begun < len(saved) == -(-4 * BLOCK.rows // BLOCK.batch)
