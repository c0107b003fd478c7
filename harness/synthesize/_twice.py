"""Rows that a block reads more than once."""

from __future__ import annotations

from collections.abc import Iterable

from harness.records.example import Example


def again(rows: Iterable[Example]) -> Iterable[Example]:
    """The rows as something that can be read twice: as they are where they can, else held in a list."""
    return list(rows) if iter(rows) is rows else rows
