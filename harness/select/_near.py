"""What nearness of texts means here: shingles, their exact similarity, and the bands of MinHash signatures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 128
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


def band_keys(shingles: Sequence[Sequence[str]], count: int) -> np.ndarray:
    """64-bit keys of the bands of each text's signature, uint64, shape (texts, bands), from the texts' shingles."""
    import numpy as np
    from rensa import RMinHash

    width = PERMUTATIONS // count
    odd = np.random.default_rng(SEED).integers(0, 2**63, width, dtype=np.uint64) * 2 + 1
    rows = RMinHash.digest_matrix_from_token_sets(shingles, PERMUTATIONS, SEED).to_rows()
    digests = np.asarray(rows, dtype=np.uint64).reshape(len(shingles), count, width)
    keys = np.zeros((len(shingles), count), dtype=np.uint64)
    for at in range(width):  # a polynomial of the digests, mixed at each step: equal bands give equal keys
        keys = (keys ^ digests[:, :, at]) * odd[at]
        keys ^= keys >> np.uint64(29)
    return keys


def shingle(text: str, words: int) -> list[str]:
    """Runs of `words` words, lower case, without punctuation; a shorter text is one run.

    Where words between spaces make up less than half of a text (operators, emoji, Chinese, Japanese, Thai), runs of
    `CHARACTERS` characters instead, punctuation included: there a "word" would be nothing, or a whole sentence.
    """
    lower = " ".join(text.lower().split())
    tokens = _WORD.findall(lower)
    spaced = sum(map(len, tokens)) - (0 if lower.isascii() else len(UNSPACED.findall(lower)))
    if 2 * spaced >= len(lower) - lower.count(" "):
        runs = zip(*(tokens[start:] for start in range(words)), strict=False)
        return list(map(" ".join, runs)) or [" ".join(tokens)]
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
