"""Selectors by their reasons: which row stays, and why every other one does not."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context, Selector
from harness.select.dedup import Dedup
from harness.select.first import First
from harness.select.sample import Sample
from harness.select.threshold import Threshold
from harness.select.top import Top


def select(block: Selector, context: Context | None = None, **columns: list[Any]) -> list[str | None]:
    rows = len(next(iter(columns.values())))
    ids = {"id": [f"r{k}" for k in range(rows)], "group": [f"g{k}" for k in range(rows)]}
    table = pd.DataFrame({**ids, **{name.replace("tag_", "tag:"): values for name, values in columns.items()}})
    assert set(block.needs()) <= set(table.columns)
    decisions = block.select(table, context or Context(block=block.name))
    assert len(decisions) == rows
    return decisions


# --- top ------------------------------------------------------------------------------------------------------------
def test_top_takes_a_share_of_the_rows_that_came_in() -> None:
    block = Top(by="ifd", keep="50%", where={"ifd": {"below": 1.0}})
    assert select(block, ifd=[0.5, 1.0, 0.9, 1.7, 0.1, None]) == [
        None,
        "ifd >= 1",
        None,
        "ifd >= 1",
        None,
        "ifd missing",
    ]
    assert select(block, ifd=[0.5, 0.6, 0.9, 0.7]) == ["rank", "rank", None, None]


def test_top_by_count_and_ascending() -> None:
    assert select(Top(by="x", keep=1), x=[1.0, 3.0, 2.0]) == ["rank", None, "rank"]
    assert select(Top(by="x", keep=2, ascending=True), x=[1.0, 3.0, 2.0]) == [None, "rank", None]
    assert select(Top(by="x", keep=9), x=[1.0, 3.0]) == [None, None]


def test_limits_on_other_scores_and_the_first_reason_counts() -> None:
    block = Top(by="ifd", keep=9, where={"ifd": {"below": 1}, "length": {"min": 5, "max": 50}, "r": {"above": -12}})
    got = select(block, ifd=[0.5, 0.5, 0.5, 2.0, 0.5], length=[5, 4, 51, 1, 50], r=[0.0, 0.0, 0.0, 0.0, -12.0])
    assert got == [None, "length < 5", "length > 50", "ifd >= 1", "r <= -12"]
    assert block.needs() == ("ifd", "length", "r")


def test_ties_fall_by_id_whatever_the_order_of_the_file() -> None:
    ids = [f"row{k}" for k in range(200)]

    def kept(order: list[str]) -> set[str]:
        table = pd.DataFrame({"id": order, "group": order, "x": 1.0})
        return {
            i for i, reason in zip(order, Top(by="x", keep=20).select(table, Context()), strict=True) if reason is None
        }

    first = kept(ids)
    assert len(first) == 20
    assert kept(list(reversed(ids))) == kept(random.Random(0).sample(ids, 200)) == first
    assert first != set(ids[:20])


def test_infinite_scores_rank_and_all_missing_scores_are_missing() -> None:
    assert select(Top(by="x", keep=1), x=[1.0, float("inf"), None]) == ["rank", None, "x missing"]
    assert select(Top(by="x", keep=1), x=[None, None]) == ["x missing"] * 2


@pytest.mark.parametrize(
    "options",
    [
        {"by": "x"},
        {"by": "x", "keep": 0},
        {"by": "x", "keep": "110%"},
        {"by": "x", "keep": 5, "where": {"x": {}}},
        {"by": "x", "keep": 5, "where": {"x": {"under": 1}}},
        {"by": "x", "keep": 5, "where": {"x": {"below": float("nan")}}},
        {"by": "x", "keep": 5, "where": "x < 1"},
    ],
)
def test_top_refuses_options_without_meaning(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Top(**options)


# --- threshold ------------------------------------------------------------------------------------------------------
def test_threshold() -> None:
    scores = [0.79, 0.8, 1.0, None]
    assert select(Threshold(by="prefer", min=0.8), prefer=scores) == ["prefer < 0.8", None, None, "prefer missing"]
    assert select(Threshold(by="prefer", above=0.8), prefer=scores)[1] == "prefer <= 0.8"
    assert select(Threshold(by="x", below=1, min=0), x=[-1, 0, 0.5, 1]) == ["x < 0", None, None, "x >= 1"]
    assert select(Threshold(by="x", max=1), x=[1, 2]) == [None, "x > 1"]


def test_threshold_needs_a_limit() -> None:
    with pytest.raises(ValidationError, match="at least one of below, above, max, min"):
        Threshold(by="x")


# --- first ----------------------------------------------------------------------------------------------------------
def test_first_keeps_what_comes_first_in_each_group() -> None:
    got = select(First(), group=["a", "b", "a", "c", "b", "a"])
    assert got == [None, None, "not first of its group", None, "not first of its group", "not first of its group"]


# --- sample ---------------------------------------------------------------------------------------------------------
def kept(decisions: list[str | None]) -> set[int]:
    assert set(decisions) <= {None, "not sampled"}
    return {index for index, reason in enumerate(decisions) if reason is None}


def test_samples_are_seeded_nested_and_of_the_asked_size() -> None:
    rows: dict[str, Any] = {"x": [0.0] * 1000}
    small, large = kept(select(Sample(keep="5%"), **rows)), kept(select(Sample(keep=100), **rows))
    assert (len(small), len(large)) == (50, 100)
    assert small < large
    assert kept(select(Sample(keep="5%"), Context(block="sample", seed=1), **rows)) != small
    assert kept(select(Sample(keep="5%"), Context(block="sample", iteration=2), **rows)) != small
    assert kept(select(Sample(keep=5000), **rows)) == set(range(1000))


def test_a_sample_does_not_depend_on_the_order_of_the_file() -> None:
    ids = [f"row{k}" for k in range(300)]

    def names(order: list[str]) -> set[str]:
        table = pd.DataFrame({"id": order, "group": order})
        return {i for i, r in zip(order, Sample(keep="10%").select(table, Context()), strict=True) if r is None}

    assert names(ids) == names(ids[::-1])


def test_a_sample_per_tag_takes_from_each_value() -> None:
    tags = ["math"] * 100 + ["coding"] * 40 + [None] * 10
    got = kept(select(Sample(keep="10%", per="category"), tag_category=tags))
    assert Counter(tags[index] for index in got) == {"math": 10, "coding": 4, None: 1}
    assert len(kept(select(Sample(keep=20, per="category"), tag_category=tags))) == 50


# --- dedup ----------------------------------------------------------------------------------------------------------
def test_exact_duplicates_keep_the_earliest() -> None:
    prompts = ["Why?", "Who?", " why? ", "Why?", "Why"]
    assert select(Dedup(), prompt=prompts) == [None, None, "duplicate", "duplicate", None]
    assert select(Dedup(on="conversation"), digest=["1", "2", "1"]) == [None, None, "duplicate"]


def words(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(500)}" for _ in range(count)]


def test_near_duplicates_are_found_and_nothing_less_similar_is() -> None:
    base = [words(k, 60) for k in range(300)]
    near = [[*text[:-2], "other", "end"] for text in base]
    far = [[*text[:30], *words(1000 + k, 30)] for k, text in enumerate(base)]
    got = select(Dedup(near=0.8), prompt=[" ".join(text) for text in base + near + far])
    assert got[:300] == [None] * 300
    assert got[300:600] == ["near duplicate"] * 300
    assert got[600:] == [None] * 300


def test_near_duplicates_are_compared_with_kept_rows_only() -> None:
    """A ~ B ~ C, A unlike C: B falls, C stays."""
    text = words(1, 100)
    chain = [text, [*text[:-8], *words(2, 8)], [*words(3, 8), *text[8:-8], *words(2, 8)]]
    joined = [" ".join(t) for t in chain]
    assert select(Dedup(near=0.8, shingle=1), prompt=joined) == [None, "near duplicate", None]
    assert select(Dedup(near=0.8, shingle=1), prompt=joined[1:]) == [None, "near duplicate"]


def test_near_duplicates_of_conversations_see_the_answer() -> None:
    prompts, digests = ["Tell me more about it"] * 3, ["1", "2", "3"]
    answers = [" ".join(words(1, 40)), " ".join([*words(1, 39), "else"]), " ".join(words(2, 40))]
    got = select(Dedup(on="conversation", near=0.8), prompt=prompts, answer=answers, digest=digests)
    assert got == [None, "near duplicate", None]
    assert Dedup(on="conversation").needs() == ("digest",), "texts are read only where they are compared"


def test_an_exact_duplicate_is_not_counted_as_near_and_chunks_see_each_other() -> None:
    texts = [" ".join(words(k, 12)) for k in range(5000)]
    got = select(Dedup(near=0.85), prompt=[*texts, texts[3], texts[4] + " and"])
    assert got == [*[None] * 5000, "duplicate", "near duplicate"]


@pytest.mark.parametrize("options", [{"near": 0}, {"near": 1.2}, {"shingle": 0}, {"on": "id"}])
def test_dedup_refuses_options_without_meaning(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Dedup(**options)


@pytest.mark.parametrize(
    "block", [Top(by="x", keep=1), Threshold(by="x", min=1), First(), Sample(keep=1), Dedup(near=0.8)]
)
def test_no_rows_give_no_decisions(block: Selector) -> None:
    assert select(block, x=[], prompt=[]) == []
