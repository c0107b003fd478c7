"""Near duplicates among many texts: MinHash candidates, each checked by the exact similarity of its shingles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 128
CHUNK = 4096
RECALL = 0.99
"""Wanted probability that a pair just at the threshold becomes a candidate; pairs above it are likelier still."""
SEED = 42
_WORD = re.compile(r"\w+")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""
CHARACTERS = 5
"""Length of the character runs by which texts without words are compared."""


def earlier_twins(texts: Sequence[str], threshold: float, words: int) -> Iterator[int | None]:
    """Per text, the first earlier kept text that is at least `threshold` similar; None keeps the text.

    Greedy in the order given: a text is compared with kept texts only, so of A ~ B ~ C with A unlike C, C stays.
    Memory is the texts and, per text and band of the signature, 20 bytes; one chunk's shingles at a time.
    """
    groups = _Groups(texts, threshold, words)
    shingles = lru_cache(maxsize=CHUNK)(lambda number: frozenset(shingle(texts[number], words)))
    dropped: set[int] = set()
    for number in range(len(texts)):
        candidates = (n for n in groups.earlier(number) if n not in dropped)
        twin = next((n for n in candidates if jaccard(shingles(n), shingles(number)) >= threshold), None)
        if twin is not None:
            dropped.add(number)
        yield twin


class _Groups:
    """Texts that share a band of their MinHash signatures, by band: candidates for being alike.

    Bands are the index of locality-sensitive hashing (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).
    """

    def __init__(self, texts: Sequence[str], threshold: float, words: int) -> None:
        import numpy as np

        count = bands(threshold)
        keys, start = np.empty((len(texts), count), dtype=np.uint64), 0
        for part in _band_keys(texts, count, words):
            keys[start : start + len(part)] = part
            start += len(part)
        self._order, self._first, self._place = [], [], []
        suspects = np.zeros(len(texts), dtype=bool)
        for band in keys.T:
            order = np.argsort(band, kind="stable").astype(np.int32)
            ordered = band[order]
            begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)])
            sizes = np.diff(np.append(begins, len(order)))
            first, place = np.empty_like(order), np.empty_like(order)
            first[order] = np.repeat(begins, sizes)
            place[order] = np.arange(len(order))
            suspects |= place > first
            self._order.append(order)
            self._first.append(first)
            self._place.append(place)
        self._suspects = suspects

    def earlier(self, number: int) -> list[int]:
        """Numbers of the texts before this one that share a band with it, in order."""
        if not self._suspects[number]:
            return []
        import numpy as np

        parts = [
            order[first[number] : place[number]]
            for order, first, place in zip(self._order, self._first, self._place, strict=True)
        ]
        found: list[int] = np.unique(np.concatenate(parts)).tolist()
        return found


def _band_keys(texts: Sequence[str], count: int, words: int) -> Iterator[np.ndarray]:
    """64-bit keys of the bands of each text's signature, uint64, shape (texts of a chunk, bands)."""
    import numpy as np
    from rensa import RMinHash

    width = PERMUTATIONS // count
    odd = np.random.default_rng(SEED).integers(0, 2**63, width, dtype=np.uint64) * 2 + 1
    for start in range(0, len(texts), CHUNK):
        chunk = [shingle(text, words) for text in texts[start : start + CHUNK]]
        rows = RMinHash.digest_matrix_from_token_sets(chunk, PERMUTATIONS, SEED).to_rows()
        digests = np.asarray(rows, dtype=np.uint64).reshape(len(chunk), count, width)
        key = np.zeros((len(chunk), count), dtype=np.uint64)
        for at in range(width):  # a polynomial of the digests, mixed at each step: equal bands give equal keys
            key = (key ^ digests[:, :, at]) * odd[at]
            key ^= key >> np.uint64(29)
        yield key


def shingle(text: str, words: int) -> list[str]:
    """Runs of `words` words, lower case, without punctuation; a shorter text is one run.

    Where words between spaces make up less than half of a text (operators, emoji, Chinese, Japanese, Thai), runs of
    `CHARACTERS` characters instead, punctuation included: there a "word" would be nothing, or a whole sentence.
    """
    lower = " ".join(text.lower().split())
    tokens = _WORD.findall(lower)
    spaced = sum(map(len, tokens)) - len(UNSPACED.findall(lower))
    if 2 * spaced >= len(lower) - lower.count(" "):
        return [" ".join(tokens[i : i + words]) for i in range(max(1, len(tokens) - words + 1))]
    return [lower[i : i + CHARACTERS] for i in range(max(1, len(lower) - CHARACTERS + 1))]


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared shingles as a share of all (0..1)."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def bands(threshold: float) -> int:
    """The fewest bands of the signature with which a pair at the threshold is a candidate with probability `RECALL`."""
    return next(
        n for n in _divisors() if n == PERMUTATIONS or 1 - (1 - threshold ** (PERMUTATIONS // n)) ** n >= RECALL
    )


def _divisors() -> Iterable[int]:
    return (n for n in range(1, PERMUTATIONS + 1) if PERMUTATIONS % n == 0)
