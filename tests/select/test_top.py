"""`top`: which row stays, and why every other one does not."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context
from harness.select.top import Top


def test_top_takes_a_share_of_the_rows_that_came_in(select: Any) -> None:
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


def test_a_share_of_the_survivors_is_smaller(select: Any) -> None:
    """The two released selectors: int(rate x pool) and int(rate x rows that have a score and keep the limit)."""
    scores = [0.5, 1.7, 0.9, 1.7, 0.1, None, 0.8, 2.0]
    for of, count in (("all", 4), ("survivors", 2)):
        reasons = select(Top(by="ifd", keep="50%", where={"ifd": {"max": 1.0}}, of=of), ifd=scores)
        assert reasons.count(None) == count
        assert reasons[2] is None


def test_a_share_that_comes_to_no_row_keeps_none(select: Any) -> None:
    assert select(Top(by="x", keep="10%"), x=[1.0, 2.0, 3.0]) == ["rank"] * 3, "not all, as [-0:] would"


def test_top_by_count_and_ascending(select: Any) -> None:
    assert select(Top(by="x", keep=1), x=[1.0, 3.0, 2.0]) == ["rank", None, "rank"]
    assert select(Top(by="x", keep=2, ascending=True), x=[1.0, 3.0, 2.0]) == [None, "rank", None]
    assert select(Top(by="x", keep=9), x=[1.0, 3.0]) == [None, None]


def test_limits_on_other_scores_and_the_first_reason_counts(select: Any) -> None:
    block = Top(by="ifd", keep=9, where={"ifd": {"below": 1}, "length": {"min": 5, "max": 50}, "r": {"above": -12}})
    got = select(block, ifd=[0.5, 0.5, 0.5, 2.0, 0.5], length=[5, 4, 51, 1, 50], r=[0.0, 0.0, 0.0, 0.0, -12.0])
    assert got == [None, "length < 5", "length > 50", "ifd >= 1", "r <= -12"]
    assert block.needs() == ("ifd", "length", "r")


def test_ties_fall_by_id_whatever_the_order_of_the_file(select: Any) -> None:
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


def test_infinite_scores_rank_and_all_missing_scores_are_missing(select: Any) -> None:
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
