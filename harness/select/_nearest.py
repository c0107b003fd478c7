"""Nearest rows by vectors that need not fit into memory: parts of their file meet in turn, normalised when read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.select._vectors import Stored

if TYPE_CHECKING:
    import numpy as np

QUERIES = 16_384
"""Rows that look for neighbours while the whole file passes by."""
_PAIRS = 16_384
"""Pairs whose distance is worked out at once."""
_CROWDED = 256
"""Rows with many near ones that are looked up together."""
_LINKS, _SEARCHED = 32, 64
"""Links per row of the graph, and rows that a search keeps in view."""
Found = tuple["np.ndarray", "np.ndarray"]
"""Numbers of other rows, and their squared distances; shapes (n,)."""


class Units(Stored):
    """Vectors made unit length when they are read."""

    def _given(self, vectors: np.ndarray) -> np.ndarray:
        return _unit(vectors)


def exactly(units: Units, look: int, near: float, most: int | None) -> Iterator[Found]:
    """Per row: the `look` - 1 nearest others, or all that are nearer than `near` (at most `most` - 1) where those are
    all as near. Every row is compared with every other; the work grows with their square.
    """
    import numpy as np

    for start in range(0, len(units), QUERIES):
        asked = units.part(start, start + QUERIES)
        rows = np.arange(start, start + len(asked))
        found, apart = _best(units, rows, asked, look - 1)
        crowded: np.ndarray = np.all(apart < near, axis=1) & (look < len(units))
        more = _crowded(units, rows[crowded], asked[crowded], near, most)
        for at in range(len(rows)):
            yield next(more) if crowded[at] else (found[at], apart[at])


def _best(units: Units, rows: np.ndarray, asked: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest others of each row: numbers and distances, shape (n, count)."""
    import faiss
    import numpy as np

    found, apart = np.full((len(rows), count), -1), np.full((len(rows), count), np.inf, dtype=np.float32)
    for first, part in units.parts() if count else ():
        _, numbers = faiss.knn(asked, part, min(count + 1, len(part)))
        step = max(1, _PAIRS // numbers.shape[1])
        for at in range(0, len(rows), step):
            here = slice(at, at + step)
            new = squared(part[numbers[here]], asked[here][:, None])
            new[numbers[here] + first == rows[here, None]] = np.inf
            both = np.concatenate([apart[here], new], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, :count]
            every = np.concatenate([found[here], numbers[here] + first], axis=1)
            apart[here] = np.take_along_axis(both, order, axis=1)
            found[here] = np.take_along_axis(every, order, axis=1)
    return found, apart


def _crowded(units: Units, rows: np.ndarray, asked: np.ndarray, near: float, most: int | None) -> Iterator[Found]:
    """The same for rows with many near ones."""
    for at in range(0, len(rows), _CROWDED):
        here = slice(at, at + _CROWDED)
        if most is None:
            yield from _within(units, rows[here], asked[here], near)
        else:
            found, apart = _best(units, rows[here], asked[here], min(len(units), most) - 1)
            yield from zip(found, apart, strict=True)


def _within(units: Units, rows: np.ndarray, asked: np.ndarray, near: float) -> Iterator[Found]:
    """All others that are nearer than `near`; the index rounds, so it is asked for a little more."""
    import faiss
    import numpy as np

    found: list[list[np.ndarray]] = [[] for _ in rows]
    apart: list[list[np.ndarray]] = [[] for _ in rows]
    for first, part in units.parts():
        index: Any = faiss.IndexFlatL2(units.width)
        index.add(part)
        ends, _, numbers = index.range_search(asked, near * 1.001)
        for at, row in enumerate(rows):
            others = numbers[ends[at] : ends[at + 1]]
            others = others[others + first != row]
            found[at].append(others + first)
            apart[at].append(squared(part[others], asked[at]))
    return ((np.concatenate(f), np.concatenate(a)) for f, a in zip(found, apart, strict=True))


def nearly(units: Units, look: int, near: float, most: int | None) -> Iterator[Found]:
    """As `exactly`, by a graph (HNSW) that holds the vectors in half precision: some neighbours may be missed.

    Distances are those of the vectors themselves. A row with many near ones gets 499 of them where `most` is None.
    """
    index, step = _graph(units), 1024
    for start in range(0, len(units), step):
        asked = units.part(start, start + step)
        _, numbers = index.search(asked, min(look, len(units)))
        vectors = units.of(numbers.clip(0).ravel()).reshape(*numbers.shape, -1)
        for at, (others, theirs) in enumerate(zip(numbers, vectors, strict=True)):
            known = (others >= 0) & (others != start + at)
            found, apart = others[known], squared(theirs[known], asked[at])
            if look < len(units) and (others >= 0).all() and apart.max(initial=0.0) < near:
                _, all_ = index.search(asked[at : at + 1], min(len(units), most or 500))
                found = all_[0][(all_[0] >= 0) & (all_[0] != start + at)]
                apart = squared(units.of(found), asked[at])
            yield found, apart


def _graph(units: Units) -> Any:
    import faiss

    threads = faiss.omp_get_max_threads()
    kind: Any = faiss.IndexHNSWSQ  # its stub knows another constructor only
    index: Any = kind(units.width, faiss.ScalarQuantizer.QT_fp16, _LINKS)
    index.hnsw.efSearch = _SEARCHED
    faiss.omp_set_num_threads(1)  # several threads would build another graph each time
    try:
        for _, part in units.parts():
            index.add(part)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def squared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances, worked out from the differences: exactly 0 for equal vectors, which an index rounds."""
    found: np.ndarray = ((some - others) ** 2).sum(axis=-1)
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
