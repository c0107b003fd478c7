"""`neighbours`: how far each row is from the one most like it, and which rows say nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Columns, Context, TableScorer
from harness.records.values import Count

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CHUNK = 1024
FEW = 16
"""Neighbours looked up at first; only rows with more near ones than that are looked up again."""


class Neighbours(TableScorer):
    """Distance to the nearest other row, and repeats, by vectors that a step before (`embed`) wrote.

    Distances are squared L2 between unit vectors, as in the released code: 2 - 2 cos, so 0.05 is a cosine of 0.975.
    Rows without a vector get None everywhere. Columns:

    * `distance`: to the nearest other row; exactly 0 for equal vectors.
    * `repeats`: number of other rows nearer than `near`. The released code looks at 500 neighbours, so its counts end
      at 499; here all are counted, unless `most` says otherwise.
    * `tag:similar`: the released rule: the id of the first row that is this near, if it stands before this row, else
      the row's own id; None where no other row is this near. Of A ~ B ~ C with A unlike C, it drops B and C.
    * `tag:cluster`: the greedy rule: the id of the earliest kept row that is this near, the row's own where rows are
      dropped for it; None where it has no repeats. Of A ~ B ~ C with A unlike C, C stays.

    `{select: originals, by: similar}` (or `cluster`) then keeps one row of each.
    """

    name: ClassVar[str] = "neighbours"

    vector: str = identity("embedding", description="Name of the vectors that are compared.")
    near: float = identity(
        0.05, gt=0, description="Squared distance below which rows are repeats.", source="released code, data_filter"
    )
    most: Count | None = identity(
        None, description="Neighbours looked at per row, the row itself included; the released code: 500."
    )
    index: Literal["flat", "hnsw"] = identity(
        "flat", description="`flat` compares all rows; `hnsw` is approximate, for a million rows and more."
    )
    column: str = identity("", description="Put before the names of the columns.", pattern=r"[\w-]*")

    def needs(self) -> tuple[str, ...]:
        """The vectors alone."""
        return (f"vector:{self.vector}",)

    def columns(self) -> tuple[str, ...]:
        """Two scores and two tags."""
        own = self.column
        return (f"{own}distance", f"{own}repeats", f"tag:{own}similar", f"tag:{own}cluster")

    def score_table(self, table: pd.DataFrame, context: Context) -> Columns:
        """One index over all rows, asked in chunks."""
        import numpy as np

        given = context.vectors[self.vector]
        present = np.flatnonzero(~np.isnan(given).any(axis=1))
        ids = [str(table["id"].iloc[int(at)]) for at in present]
        columns: dict[str, list[Any]] = {name: [None] * len(table) for name in self.columns()}
        distance, repeats, similar, cluster = self.columns()
        kept: set[int] = set()
        for row, (nearest, near) in enumerate(self._neighbours(_unit(given[present]))):
            place = int(present[row])
            columns[distance][place] = nearest
            columns[repeats][place] = float(len(near))
            if near:
                columns[similar][place] = ids[min(row, *near)]
            leader = min((one for one in near if one < row and one in kept), default=row)
            if leader == row:
                kept.add(row)
            if near:
                columns[cluster][place] = ids[leader]
        self._report(context, [value for value in columns[distance] if value is not None], len(present) - len(kept))
        return columns

    def _report(self, context: Context, distances: list[float], repeated: int) -> None:
        context.count(f"{self.column}repeats of a kept row", repeated)
        if distances:
            context.figure(f"{self.column}mean distance", sum(distances) / len(distances))

    def _neighbours(self, vectors: np.ndarray) -> Iterator[tuple[float | None, list[int]]]:
        """Per vector, the squared distance of the nearest other one, and the numbers of all that are near."""
        import numpy as np

        if not len(vectors):
            return
        index = self._index(vectors)
        wide = min(len(vectors), max(2, min(FEW, self.most or FEW)))
        for start in range(0, len(vectors), CHUNK):
            part = vectors[start : start + CHUNK]
            _, found = index.search(part, wide)
            for offset, numbers in enumerate(found):
                row = start + offset
                others, exact = self._exact(vectors, row, numbers)
                if wide < len(vectors) and (numbers >= 0).all() and exact.max(initial=0.0) < self.near:
                    others, exact = self._exact(vectors, row, self._all(index, vectors, row))
                near = sorted(int(n) for n in others[exact < self.near])
                yield (float(np.min(exact)) if len(exact) else None), near

    def _index(self, vectors: np.ndarray) -> Any:
        import faiss

        width, threads = vectors.shape[1], faiss.omp_get_max_threads()
        index: Any = faiss.IndexFlatL2(width) if self.index == "flat" else faiss.IndexHNSWFlat(width, 32)
        if self.index == "flat":
            index.add(vectors)
            return index
        faiss.omp_set_num_threads(1)  # several threads would build another graph each time
        try:
            index.add(vectors)
        finally:
            faiss.omp_set_num_threads(threads)
        return index

    def _all(self, index: Any, vectors: np.ndarray, row: int) -> np.ndarray:
        """Numbers of all rows that may be near: of as many as are looked at, or of all."""
        if self.most is not None or self.index == "hnsw":
            return index.search(vectors[row : row + 1], min(len(vectors), self.most or 500))[1][0]  # type: ignore[no-any-return]
        _, _, numbers = index.range_search(vectors[row : row + 1], self.near * 1.001)
        return numbers  # type: ignore[no-any-return]

    def _exact(self, vectors: np.ndarray, row: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Other rows among these, with their distances worked out again: the index rounds those of equal vectors."""
        others = numbers[(numbers >= 0) & (numbers != row)]
        return others, ((vectors[others] - vectors[row]) ** 2).sum(axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
