"""Runs of words that texts share with given passages, found by one pass over hashes: no text meets every passage.

Every word of the passages has a number, every other word is 0. The hash of a run of k words follows from that of k-1
words, for all places of a batch at once; a run with a 0 in it can match nothing. Hashes have 64 bits: with 10^5 rows
and 10^4 items the chance that any two unlike runs collide is below 10^-5.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.select._near import UNSPACED

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.int64]
    Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that multiplication by it loses nothing modulo 2^64."""


@dataclass(frozen=True)
class Target:
    """A passage to look for: its number, its words, and the length of the runs that count.

    `run` equal to the number of words means the passage as a whole; with `alone` only where a text is nothing else.
    """

    number: int
    words: tuple[str, ...]
    run: int
    alone: bool = False


@dataclass(frozen=True)
class Found:
    """One passage in one text: the share of the passage's words that lie in a shared run, and the first such run."""

    text: int
    target: int
    share: float
    first: str


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation; a letter of a script without spaces is a word of its own."""
    lower = text.lower()
    if not lower.isascii():
        lower = UNSPACED.sub(r" \g<0> ", lower)
    return _WORD.findall(lower)


class Overlap:
    """An index of passages. Memory: three numbers per run of words in them."""

    def __init__(self, targets: Sequence[Target]) -> None:
        import numpy as np

        self._targets = list(targets)
        self._numbers = {w: n for n, w in enumerate(dict.fromkeys(w for t in targets for w in t.words), start=1)}
        values = np.random.default_rng(13).integers(1, 2**63, size=len(self._numbers) + 1, dtype=np.uint64)
        self._values = values * np.uint64(2) + np.uint64(1)
        flat, starts, _ = self._flat([t.words for t in targets])
        own = np.array([t.run for t in targets], dtype=np.int64)
        self._tables: dict[int, _Table] = {}
        for length, hashes in self._hashed(flat, set(own.tolist())):
            places = np.flatnonzero(hashes)
            owners = np.searchsorted(starts, places, side="right") - 1
            mine = own[owners] == length
            places, owners = places[mine], owners[mine]
            self._tables[length] = _Table.of(hashes[places], owners, places - starts[owners])

    def search(self, texts: Sequence[Sequence[str]]) -> Iterator[Found]:
        """What the texts (as words) share with the passages, in the order of the texts."""
        import numpy as np

        flat, starts, ends = self._flat(texts)
        seen: dict[tuple[int, int], tuple[set[int], int]] = {}
        """(text, target) to the places of the shared runs in the target, and the first place in the text."""
        for length, hashes in self._hashed(flat, set(self._tables)):
            table = self._tables[length]
            for place in np.flatnonzero(table.has(hashes)).tolist():
                text = int(np.searchsorted(starts, place, side="right")) - 1
                whole = place == starts[text] and place + length == ends[text]
                for number, offset in table.owners(hashes[place]):
                    if whole or not self._targets[number].alone:
                        seen.setdefault((text, number), (set(), place))[0].add(offset)
        for (text, number), (offsets, place) in sorted(seen.items()):
            target, first = self._targets[number], place - int(starts[text])
            covered = {word for offset in offsets for word in range(offset, offset + target.run)}
            said = " ".join(texts[text][first : first + target.run])
            yield Found(text, target.number, len(covered) / len(target.words), said)

    def _flat(self, texts: Sequence[Sequence[str]]) -> tuple[Words, Words, Words]:
        """All words as numbers with a 0 after each text, where each text starts, and where it ends."""
        import numpy as np

        get = self._numbers.get
        flat: list[int] = []
        for text in texts:
            flat.extend([get(word, 0) for word in text])
            flat.append(0)
        lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
        starts = np.cumsum(lengths + 1) - lengths - 1
        return np.array(flat, dtype=np.int64), starts, starts + lengths

    def _hashed(self, flat: Words, lengths: Collection[int]) -> Iterator[tuple[int, Hashes]]:
        """For each of the lengths, the hashes of the runs that start at each place (0: no run of known words)."""
        import numpy as np

        known, value, factor = flat > 0, self._values[flat], np.uint64(_FACTOR)
        ok, hashes = known, value
        for length in range(1, min(max(lengths, default=0), len(flat)) + 1):
            if length > 1:
                ok = ok[:-1] & known[length - 1 :]
                hashes = hashes[:-1] * factor + value[length - 1 :]
            if length in lengths:
                yield length, np.where(ok, hashes, np.uint64(0))


@dataclass(frozen=True)
class _Table:
    """Hashes in order; for each, whose run it is and where in that passage."""

    hashes: Hashes
    targets: Words
    offsets: Words

    @classmethod
    def of(cls, hashes: Hashes, targets: Words, offsets: Words) -> _Table:
        import numpy as np

        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], targets[order], offsets[order])

    def has(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        import numpy as np

        if not len(self.hashes):
            return np.zeros(len(hashes), dtype=bool)
        at = np.searchsorted(self.hashes, hashes)
        at[at == len(self.hashes)] = 0
        found: npt.NDArray[np.bool_] = (self.hashes[at] == hashes) & (hashes != 0)
        return found

    def owners(self, value: np.uint64) -> list[tuple[int, int]]:
        """(index of a target, offset of the run in it)."""
        import numpy as np

        low, high = np.searchsorted(self.hashes, value, "left"), np.searchsorted(self.hashes, value, "right")
        return list(zip(self.targets[low:high].tolist(), self.offsets[low:high].tolist(), strict=True))
