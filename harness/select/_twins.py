"""Near duplicates among many texts, found with little memory: signatures and texts wait on disk.

Texts that share a band of their MinHash signatures are candidates (Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, 3.4); each is checked by the exact similarity of its shingles. Of a text, 8 bytes are held while texts are
added; then one band at a time is sorted, and of each band what shares its key with another text takes some 6 bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from harness.select._near import band_keys, bands, jaccard, shingle

if TYPE_CHECKING:
    import numpy as np

CHUNK = 4096
"""Texts whose places are read back together, and whose shingles are kept at hand."""
SKETCHED = 512
"""Texts whose signatures are made together: they pass through Python's numbers, and more would leave the cache."""


class Twins:
    """Texts are added in order; `earlier` then tells which is a near duplicate of an earlier one that is kept.

    Args:
        folder: for the files, of `8 * bands` bytes per text and the texts themselves; it must be there and empty.
        threshold: similarity from which on two texts are near duplicates, above 0 and at most 1.
        words: length of the shingles.
    """

    def __init__(self, folder: Path, threshold: float, words: int) -> None:
        self._threshold, self._words, self._bands = threshold, words, bands(threshold)
        self._files = [folder / f"band-{band}" for band in range(self._bands)]
        self._path = folder / "texts"
        self._ends = array("q", [0])

    def add(self, texts: Sequence[str]) -> None:
        """Takes more texts."""
        import numpy as np

        with self._path.open("ab") as out:
            for text in texts:
                self._ends.append(self._ends[-1] + out.write(text.encode("utf-8", "surrogatepass")))
        for start in range(0, len(texts), CHUNK):
            parts = (texts[at : min(at + SKETCHED, start + CHUNK)] for at in range(start, start + CHUNK, SKETCHED))
            sets = ([shingle(text, self._words) for text in part] for part in parts if part)
            keys = np.concatenate([band_keys(part, self._bands) for part in sets])
            for file, band in zip(self._files, keys.T, strict=True):
                with file.open("ab") as out:
                    out.write(band.tobytes())

    def earlier(self) -> Iterator[int | None]:
        """Per text, the first earlier kept text that is at least `threshold` similar; None keeps the text.

        Greedy in the order given: a text is compared with kept texts only, so of A ~ B ~ C with A unlike C, C stays.
        """
        if len(self._ends) == 1:
            return
        groups = _Groups(self._files)
        with self._path.open("rb") as texts:
            shingles = lru_cache(maxsize=CHUNK)(lambda number: frozenset(self._shingles(texts, number)))
            for number, shared in groups.places():
                alike = (n for n in groups.kept(shared) if jaccard(shingles(n), shingles(number)) >= self._threshold)
                twin = next(alike, None)
                if twin is None:
                    groups.keep(number, shared)
                yield twin

    def _shingles(self, texts: BinaryIO, number: int) -> list[str]:
        start, end = self._ends[number], self._ends[number + 1]
        texts.seek(start)
        return shingle(texts.read(end - start).decode("utf-8", "surrogatepass"), self._words)


class _Groups:
    """Texts that share a band's key, by band; a group's room holds how many of it are kept, then their numbers."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Sorts each file of keys and leaves each text's place in it: where its group's room begins, or -1."""
        import numpy as np

        self._files, self._starts, rooms = files, list[int](), 0
        for file in files:
            places, size = _places(np.fromfile(file, dtype=np.uint64))
            places.tofile(file)
            self._starts.append(rooms)
            rooms += size
        self._rooms = array("i", bytes(4 * rooms))
        self._texts = len(places)

    def places(self) -> Iterator[tuple[int, list[int]]]:
        """Each text's number and the rooms of the groups that it is in."""
        import numpy as np

        starts = np.array(self._starts, dtype=np.int64)
        for first in range(0, self._texts, CHUNK):
            columns = [np.fromfile(file, np.int32, CHUNK, offset=4 * first) for file in self._files]
            places = np.stack(columns, axis=1)
            inside = places >= 0
            rooms = (places + starts)[inside].tolist()
            ends = np.cumsum(inside.sum(axis=1)).tolist()
            for row, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
                yield first + row, rooms[start:end]

    def kept(self, rooms: Sequence[int]) -> list[int]:
        """Numbers of the kept texts of these groups, in order."""
        held = self._rooms
        return sorted({number for room in rooms for number in held[room + 1 : room + 1 + held[room]]})

    def keep(self, number: int, rooms: Sequence[int]) -> None:
        """Notes that a text is kept, in each of its groups."""
        for room in rooms:
            self._rooms[room] += 1
            self._rooms[room + self._rooms[room]] = number


def _places(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """Per text, where the room of the group with its key begins, int32, -1 for a key of its own; the size of all rooms.

    A group of n texts has a room of n + 1 numbers.
    """
    import numpy as np

    order = np.argsort(keys)
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(begins, len(order)))
    rooms = np.where(sizes > 1, sizes + 1, 0)
    first = np.where(sizes > 1, np.cumsum(rooms) - rooms, -1)
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.repeat(first, sizes)
    return places, int(rooms.sum())
