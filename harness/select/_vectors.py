"""Vectors of rows, for the blocks that compare rows by distance: read from their file where they need not be held."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.select._bounds import Reasons

if TYPE_CHECKING:
    import numpy as np

PART = 32_768
"""Rows that are read at once."""


@dataclass(frozen=True)
class Stored:
    """The rows that have a vector; row number k is the k-th of these.

    `given`: float32, shape (rows, width), NaN where missing. Where it is mapped from a file, the file is read instead:
    pages that are touched in a mapping count as this process's memory. `among`: a mask of the rows that count at all.
    """

    given: np.ndarray
    among: np.ndarray | None = None

    @cached_property
    def places(self) -> np.ndarray:
        """Places of the rows that have a vector."""
        import numpy as np

        total = len(self.given)
        parts = ((start, self._read(start, start + PART)) for start in range(0, total, PART))
        found = [start + np.flatnonzero(~np.isnan(part).any(axis=1)) for start, part in parts]
        places = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        return places if self.among is None else places[self.among[places]]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.given.shape[1])

    def held(self) -> np.ndarray:
        """All of them, as an array of its own."""
        import numpy as np

        out = np.empty((len(self), self.width), dtype=np.float32)
        for start, part in self.parts():
            out[start : start + len(part)] = part
        return out

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows, `PART` at a time, each with the number of its first."""
        for start in range(0, len(self), PART):
            yield start, self.part(start, start + PART)

    def part(self, start: int, stop: int) -> np.ndarray:
        """The rows with these numbers, one after the other."""
        import numpy as np

        wanted = self.places[start:stop]
        out = np.empty((len(wanted), self.width), dtype=np.float32)
        end = int(wanted[-1]) + 1 if len(wanted) else 0
        for first in range(int(wanted[0]) if len(wanted) else 0, end, PART):
            rows = self._read(first, min(first + PART, end))
            inside = slice(*np.searchsorted(wanted, [first, first + PART]))
            out[inside] = rows[wanted[inside] - first]
        return self._given(out)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """The rows with any numbers."""
        import numpy as np

        unique, back = np.unique(self.places[numbers], return_inverse=True)
        if not self._mapped:
            return self._given(self.given[unique])[back]
        size, out = self.width * 4, np.empty((len(unique), self.width), dtype=np.float32)
        with Path(self._file).open("rb") as file:
            for at, place in enumerate(unique.tolist()):
                out[at] = np.frombuffer(os.pread(file.fileno(), size, self._offset + place * size), dtype=np.float32)
        return self._given(out)[back]

    def _given(self, vectors: np.ndarray) -> np.ndarray:
        """What becomes of vectors that were read."""
        return vectors

    def _read(self, start: int, stop: int) -> np.ndarray:
        import numpy as np

        if not self._mapped:
            return self.given[start:stop]
        size = self.width * 4
        count = (min(stop, len(self.given)) - start) * self.width
        return np.fromfile(self._file, np.float32, count, offset=self._offset + start * size).reshape(-1, self.width)

    @cached_property
    def _mapped(self) -> bool:
        """True for the mapping of a file itself; a view of one does not know where in the file it lies."""
        return isinstance(self.given.base, mmap.mmap) and getattr(self.given, "filename", None) is not None

    @property
    def _file(self) -> Any:
        return self.given.filename  # type: ignore[attr-defined]

    @property
    def _offset(self) -> int:
        return int(self.given.offset)  # type: ignore[attr-defined]


def marked(stored: Stored, name: str, reasons: Reasons) -> None:
    """Marks the rows that have no vector: `<name> missing`."""
    import numpy as np

    missing = np.ones(len(stored.given), dtype=bool)
    missing[stored.places] = False
    reasons.mark(missing, f"{name} missing")


def check_enough(block: str, rows: int, wanted: int, why: str, hint: str) -> None:
    """Refuses a pool that is smaller than what is to be picked from it.

    Raises:
        UserError: it is.
    """
    if rows < wanted:
        raise UserError(f"{block}: {why} need {wanted:,} rows, and {rows:,} came in: {hint}, or give it a larger pool")
