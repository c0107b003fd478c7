"""`first`: one row per group."""

from __future__ import annotations

from typing import Any

from harness.select.first import First


def test_first_keeps_what_comes_first_in_each_group(select: Any) -> None:
    got = select(First(), group=["a", "b", "a", "c", "b", "a"])
    assert got == [None, None, "not first of its group", None, "not first of its group", "not first of its group"]
