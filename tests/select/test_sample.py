"""`sample`: seeded, nested, by tag."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from harness.blocks.kinds import Context
from harness.select.sample import Sample


def kept(decisions: list[str | None]) -> set[int]:
    assert set(decisions) <= {None, "not sampled"}
    return {index for index, reason in enumerate(decisions) if reason is None}


def test_samples_are_seeded_nested_and_of_the_asked_size(select: Any) -> None:
    rows: dict[str, Any] = {"x": [0.0] * 1000}
    small, large = kept(select(Sample(keep="5%"), **rows)), kept(select(Sample(keep=100), **rows))
    assert (len(small), len(large)) == (50, 100)
    assert small < large
    assert kept(select(Sample(keep="5%"), Context(block="sample", seed=1), **rows)) != small
    assert kept(select(Sample(keep="5%"), Context(block="sample", iteration=2), **rows)) != small
    assert kept(select(Sample(keep=5000), **rows)) == set(range(1000))


def test_a_sample_does_not_depend_on_the_order_of_the_file(select: Any) -> None:
    ids = [f"row{k}" for k in range(300)]

    def names(order: list[str]) -> set[str]:
        table = pd.DataFrame({"id": order, "group": order})
        return {i for i, r in zip(order, Sample(keep="10%").select(table, Context()), strict=True) if r is None}

    assert names(ids) == names(ids[::-1])


def test_a_sample_per_tag_takes_from_each_value(select: Any) -> None:
    tags = ["math"] * 100 + ["coding"] * 40 + [None] * 10
    got = kept(select(Sample(keep="10%", per="category"), tag_category=tags))
    assert Counter(tags[index] for index in got) == {"math": 10, "coding": 4, None: 1}
    assert len(kept(select(Sample(keep=20, per="category"), tag_category=tags))) == 50
