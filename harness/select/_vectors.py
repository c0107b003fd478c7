"""Vectors of rows for the selectors that compare rows by distance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.blocks.kinds import Context
from harness.errors import UserError
from harness.select._bounds import Reasons

if TYPE_CHECKING:
    import numpy as np

_CHUNK = 65536


def placed(context: Context, name: str, reasons: Reasons) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows that have a vector, shape (n,), and their vectors, float32, shape (n, width).

    The others are marked: `<name> missing`.
    """
    import numpy as np

    vectors = context.vectors[name]
    missing = [np.isnan(part).any(axis=1) for part in chunks(vectors)]
    reasons.mark(np.concatenate(missing) if missing else [], f"{name} missing")
    places = np.flatnonzero(reasons.kept())
    return places, (vectors if len(places) == len(vectors) else vectors[places])


def chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in parts, so that what is computed of each stays small where the whole is mapped from a file."""
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def check_enough(block: str, rows: int, wanted: int, why: str, hint: str) -> None:
    """Refuses a pool that is smaller than what is to be picked from it.

    Raises:
        UserError: it is.
    """
    if rows < wanted:
        raise UserError(f"{block}: {why} need {wanted:,} rows, and {rows:,} came in: {hint}, or give it a larger pool")
