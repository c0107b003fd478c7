"""`longest`: a stable sort by length, with answers that never ended left out first."""

from __future__ import annotations

from typing import Any

from harness.select.longest import Longest


def test_the_longest_rows_in_a_stable_order(select: Any) -> None:
    lengths = [5.0, 9.0, 5.0, None, 7.0, 5.0]
    columns: dict[str, Any] = {"length": lengths, "field:answer_cut": [None] * 6}
    assert select(Longest(keep=3), **columns) == [None, None, "rank", "length missing", None, "rank"]
    assert select(Longest(keep="50%"), **columns) == select(Longest(keep=3), **columns), "a share of all rows"


def test_answers_that_hit_the_cap_do_not_compete(select: Any) -> None:
    columns: dict[str, Any] = {"length": [5.0, 900.0, 7.0], "field:answer_cut": [None, True, False]}
    assert select(Longest(keep=1), **columns) == ["rank", "cut by the length cap", None]
    assert select(Longest(keep=1, keep_cut=True), length=columns["length"]) == ["rank", None, "rank"]
