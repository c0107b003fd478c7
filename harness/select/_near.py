"""Near duplicates among many texts: MinHash candidates, each checked by the exact similarity of its shingles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

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
    Memory is the LSH index and the texts; one chunk's shingles at a time.
    """
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
    shingles = lru_cache(maxsize=CHUNK)(lambda number: frozenset(shingle(texts[number], words)))
    dropped: set[int] = set()
    for start in range(0, len(texts), CHUNK):
        chunk = [shingle(text, words) for text in texts[start : start + CHUNK]]
        matrix = RMinHash.digest_matrix_from_token_sets(chunk, PERMUTATIONS, SEED)
        flags = index.insert_matrix_and_query_duplicate_flags(matrix, start)
        suspects = [offset for offset, flag in enumerate(flags) if flag]
        sketches = RMinHash.from_token_sets([chunk[offset] for offset in suspects], PERMUTATIONS, SEED)
        found = dict(zip(suspects, index.query_all(sketches), strict=True))
        for offset in range(len(chunk)):
            number = start + offset
            candidates = (n for n in sorted(found.get(offset, ())) if n < number and n not in dropped)
            twin = next((n for n in candidates if jaccard(shingles(n), shingles(number)) >= threshold), None)
            if twin is not None:
                dropped.add(number)
            yield twin


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
