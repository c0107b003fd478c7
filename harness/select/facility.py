"""`facility`: rows that stand for all others, by facility location (Superfiltering.D, 2402.00530)."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.columns import VECTOR
from harness.records.values import Keep
from harness.select._bounds import Reasons
from harness.select._nearest import Units
from harness.select._vectors import check_enough, marked

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_AT_ONCE = 256


class Facility(Selector):
    """Keeps the rows that a greedy search picks to make the sum, over all rows, of the likeness to the nearest kept
    row as large as possible. Likeness is `exp(-distance / width)` of the vectors that `embed` gave, made unit length:
    the dense Euclidean kernel of the library that the released script uses, whose picks are the same.

    Superfiltering.D takes the 20 % of highest IFD first (`top`), then this down to 2 % of the pool. The work grows with
    the square of the rows, the memory does not. Reasons: `<vector> missing`, `another row stands for it`.
    """

    name: ClassVar[str] = "facility"

    by: str = identity("embedding", description="The vector that rows are compared by: the `column` of `embed`.")
    keep: Keep = identity(
        description="A share (10%) of the rows that came in, or a count.", source="2402.00530: 2 % of the pool"
    )

    def needs(self) -> tuple[str, ...]:
        """The vector."""
        return (f"{VECTOR}{self.by}",)

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """One greedy search.

        Raises:
            UserError: a count that is larger than the pool.
        """
        import numpy as np

        reasons = Reasons(len(table))
        units = Units(context.vectors[self.by])
        marked(units, self.by, reasons)
        wanted = self.keep.count or self.keep.of(len(table))
        check_enough(self.name, len(units), wanted, "the rows to keep", "set `keep` lower")
        kept = np.zeros(len(table), dtype=bool)
        kept[units.places[greedy(units.held(), wanted)]] = True
        reasons.mark(~kept, "another row stands for it")
        return reasons.result()


def greedy(vectors: np.ndarray, count: int) -> list[int]:
    """Places of the rows picked, in the order of the picks: lazily, because what a row adds can only shrink.

    Vectors: float32, shape (n, width). Equal gains go to the first row.
    """
    import numpy as np

    best = np.zeros(len(vectors))
    heap: list[tuple[float, int, int]] = []
    for start in range(0, len(vectors), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(vectors)))
        heap += [(-gain, int(row), 0) for gain, row in zip(_gains(vectors, rows, best), rows, strict=True)]
    heapq.heapify(heap)
    picked: list[int] = []
    while heap and len(picked) < count:
        _, row, seen = heapq.heappop(heap)
        if seen == len(picked):
            picked.append(row)
            best = np.maximum(best, _likeness(vectors, np.array([row]))[:, 0])
        else:
            heapq.heappush(heap, (-float(_gains(vectors, np.array([row]), best)[0]), row, len(picked)))
    return picked


def _gains(vectors: np.ndarray, rows: np.ndarray, best: np.ndarray) -> np.ndarray:
    """What each of `rows` would add to the sum."""
    import numpy as np

    gains: np.ndarray = np.maximum(_likeness(vectors, rows) - best[:, None], 0).sum(axis=0)
    return gains


def _likeness(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Likeness of all rows (n) to some (k), shape (n, k), float64."""
    import numpy as np
    from sklearn.metrics.pairwise import euclidean_distances

    likeness: np.ndarray = np.exp(-euclidean_distances(vectors, vectors[rows]).astype(np.float64) / vectors.shape[1])
    return likeness
