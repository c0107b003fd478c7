"""Is a new instruction unlike all that are there? By ROUGE-L, as Self-Instruct measures it (2212.10560 §2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W_]+")
_SURROGATES = range(0xD800, 0xE000)


class Novelty:
    """Instructions so far; a new one that is too similar to any of them is refused.

    ROUGE-L's F1 of two texts is 2 LCS / (m + n) over their words, which is the normalised Indel similarity of the word
    lists: rapidfuzz computes it in C++. Each word is one character of a private alphabet, because strings compare many
    times faster than lists. Words are runs of letters and digits in any script, in lower case; the reference
    implementation knows ASCII only, where both agree.
    """

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        """`threshold`: similarity (0..1) from which on a text is not new."""
        self._alphabet: dict[str, str] = {}
        self._threshold = threshold
        self._known = [self._coded(words(text)) for text in texts]

    def add(self, text: str) -> bool:
        """Adds a text if it is new; says whether it was."""
        from rapidfuzz import process
        from rapidfuzz.distance import Indel

        own = self._coded(words(text))
        scorer = Indel.normalized_similarity
        twin = process.extractOne(own, self._known, scorer=scorer, score_cutoff=self._threshold)
        if twin is None:
            self._known.append(own)
        return twin is None

    def _coded(self, said: Sequence[str]) -> str:
        return "".join(self._alphabet.setdefault(word, _letter(len(self._alphabet))) for word in said)


def words(text: str) -> list[str]:
    """The words of a text that are compared."""
    return _WORD.findall(text.lower())


def _letter(number: int) -> str:
    """The character of the word with this number: there are 1.1 million, without those that stand in pairs."""
    return chr(number if number < _SURROGATES.start else number + len(_SURROGATES))
