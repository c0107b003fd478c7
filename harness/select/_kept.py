"""What is made of a block's second source once, and used for every shard of a stage."""

from __future__ import annotations

import weakref
from typing import Any

_kept: dict[int, dict[str, Any]] = {}


def kept(rows: Any) -> dict[str, Any]:
    """A mapping of one's own beside a source of rows; it goes when the source does, with the stage that reads it."""
    if id(rows) not in _kept:
        _kept[id(rows)] = {}
        weakref.finalize(rows, _kept.pop, id(rows), None)
    return _kept[id(rows)]
