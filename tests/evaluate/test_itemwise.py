"""Grading is resumed by shards, so a shard's grades may not depend on the items beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from suite_driver import grades, said

from harness.blocks import registry
from harness.blocks.kinds import Judge, Suite


def built(name: str, folder: Path) -> Suite:
    if name == "pocket":
        return cast("Suite", registry.get("suite", "pocket").model_validate({"count": 8}))
    rows = [{"instruction": f"Name the number {n}.", "output": f"It is {n}.", "dataset": "made"} for n in range(6)]
    path = folder / "outputs.json"
    path.write_text(json.dumps(rows))
    return cast("Suite", registry.get("suite", "pairwise").model_validate({"path": str(path)}))


@pytest.mark.parametrize(("suite", "judge"), [("pocket", "oracle"), ("pairwise", "stand_in")])
def test_shards_give_the_grades_of_the_whole(suite: str, judge: str, tmp_path: Path) -> None:
    block = built(suite, tmp_path)
    asked: Judge = registry.get("judge", judge)()  # type: ignore[assignment]
    items = block.items("test")
    answers = said(items, [[f"answer {n} of {len(items)}"] * len(item.turns) for n, item in enumerate(items)])
    whole = grades(block, items, answers, asked)
    parts = [
        g for at in range(0, len(items), 3) for g in grades(block, items[at : at + 3], answers[at : at + 3], asked)
    ]
    assert parts == whole
    assert len(whole) >= len(items)
