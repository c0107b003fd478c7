"""Items of a suite that has one source only: the first so many, or a share set apart as dev."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from harness.errors import UserError
from harness.records.hashing import seed_of

T = TypeVar("T")


def names(dev: float | None) -> tuple[str, ...]:
    """The splits of a suite whose dev items are a share of its only source."""
    return ("test",) if dev is None else ("dev", "test")


def part(rows: Sequence[T], ids: Sequence[str], split: str, dev: float | None, limit: int | None) -> list[T]:
    """The rows of a split. Which rows are dev depends on their ids alone, never on the other rows.

    Args:
        rows: all rows of the source.
        ids: aligned names, the same whichever split is asked for: otherwise the splits would overlap.
        split: `dev` or `test`.
        dev: the share that is dev, or None.
        limit: only the first so many rows.

    Raises:
        UserError: the suite has no such split, or the split is empty.
    """
    if split not in names(dev):
        raise UserError(
            f"this suite has no {split!r} split; its splits: {', '.join(names(dev))}. `dev: 20%` sets one apart"
        )
    if limit is not None and not rows[:limit]:
        raise UserError("the suite's file has no rows")
    chosen = list(zip(ids, rows, strict=True))[:limit]
    if dev is not None:
        chosen = [(name, row) for name, row in chosen if (_share(name) < dev) == (split == "dev")]
    if not chosen:
        raise UserError(f"the {split!r} split of this suite is empty: its file has too few rows")
    return [row for _, row in chosen]


def subset_notes(limit: int | None, dev: float | None) -> tuple[str, ...]:
    """The sentence for a suite that is not asked in full."""
    parts = [f"the first {limit} items only"] if limit is not None else []
    parts += [f"{dev:.0%} of the items are set apart as dev"] if dev is not None else []
    return (f"subset: {' and '.join(parts)}; not comparable with published figures",) if parts else ()


def _share(name: str) -> float:
    return seed_of("dev", name) / 2**63
