"""Near duplicates found with signatures and texts on disk: the same as comparing all pairs, however the texts come."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.blocks.kinds import Context
from harness.records.example import text_key
from harness.select import _twins
from harness.select._near import jaccard, shingle
from harness.select._twins import Twins
from harness.select.dedup import Dedup


def texts(count: int, seed: int = 0) -> list[str]:
    """Made-up texts; every third is an earlier one with a few words changed."""
    rng, made = random.Random(seed), list[str]()
    for number in range(count):
        words = [f"w{rng.randrange(300)}" for _ in range(rng.randint(2, 60))]
        if number % 3 == 2:
            words = made[rng.randrange(number)].split()
            for _ in range(rng.choice([0, 1, 1, 2, 8])):
                words[rng.randrange(len(words))] = f"new{rng.randrange(9)}"
        made.append(" ".join(words))
    return made


def by_all_pairs(given: list[str], threshold: float) -> list[int | None]:
    sets, kept, found = [frozenset(shingle(t, 3)) for t in given], list[int](), list[int | None]()
    for number, one in enumerate(sets):
        twin = next((other for other in kept if jaccard(sets[other], one) >= threshold), None)
        if twin is None:
            kept.append(number)
        found.append(twin)
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_the_same_as_comparing_all_pairs(threshold: float, tmp_path: Path) -> None:
    given = texts(600)
    twins = Twins(tmp_path, threshold, 3)
    twins.add(given)
    assert list(twins.earlier()) == by_all_pairs(given, threshold)


def test_parts_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = texts(500, seed=1)
    monkeypatch.setattr(_twins, "CHUNK", 64)
    monkeypatch.setattr(_twins, "SKETCHED", 10)
    twins = Twins(tmp_path, 0.8, 3)
    for start, stop in ((0, 1), (1, 1), (1, 130), (130, 500)):
        twins.add(given[start:stop])
    assert list(twins.earlier()) == by_all_pairs(given, 0.8)


def test_no_texts_and_texts_that_are_no_valid_unicode(tmp_path: Path) -> None:
    assert list(Twins(tmp_path, 0.8, 3).earlier()) == []
    twins = Twins(tmp_path, 0.8, 3)
    twins.add(["broken \ud83d half of a sign", "", "broken \ud83d half of a sign!", ""])
    assert list(twins.earlier()) == [None, None, 0, 1]


def table(prompts: list[str], start: int = 0) -> pd.DataFrame:
    ids: dict[str, Any] = {"id": [f"r{start + k}" for k in range(len(prompts))]}
    return pd.DataFrame(ids | {"prompt": prompts, "prompt_key": list(map(text_key, prompts))})


def test_dedup_of_parts_is_dedup_of_the_whole_and_leaves_no_files(tmp_path: Path) -> None:
    given = texts(400, seed=2)
    given[350] = given[3]
    parts = [table(given[start : start + 90], start) for start in range(0, 400, 90)]
    whole = Dedup(near=0.8).select(table(given), Context())
    assert Dedup(near=0.8).decide(iter(parts), Context(scratch=tmp_path)) == whole
    assert whole[350] == "duplicate"
    assert "near duplicate" in whole
    assert list(tmp_path.iterdir()) == []
