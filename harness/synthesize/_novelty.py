"""Is a new instruction unlike all that are there? By ROUGE-L, as Self-Instruct measures it (2212.10560 §2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")


class Novelty:
    """Instructions so far; a new one that is too similar to any of them is refused.

    ROUGE-L's F1 of two texts is 2 LCS / (m + n) over their words, which is the normalised Indel similarity of the word
    lists: rapidfuzz computes it in C++. Words are runs of letters and digits in any script, in lower case; the
    reference implementation knows ASCII only, where both agree.
    """

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        """`threshold`: similarity (0..1) from which on a text is not new."""
        self._words = [words(text) for text in texts]
        self._threshold = threshold

    def add(self, text: str) -> bool:
        """Adds a text if it is new; says whether it was."""
        from rapidfuzz import process
        from rapidfuzz.distance import Indel

        own = words(text)
        scorer = Indel.normalized_similarity
        twin = process.extractOne(own, self._words, scorer=scorer, score_cutoff=self._threshold)
        if twin is None:
            self._words.append(own)
        return twin is None


def words(text: str) -> list[str]:
    """The words of a text that are compared."""
    return _WORD.findall(text.lower())
