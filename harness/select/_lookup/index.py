"""Indexes over passages that are held in memory: by words (BM25) or by vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.select._lookup.base import Looked

if TYPE_CHECKING:
    import numpy as np

_AT_ONCE = 32
"""Questions that are compared with all passages at the same time: 32 with a million passages are 128 MB."""
_WORD = r"(?u)\b\w+\b"


class WordIndex:
    """BM25 over lower-case words without the most common ones, through the library bm25s (its method `lucene`).

    A passage that shares no word with the question is no hit. Equal scores go to the earlier passage.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._texts = list(texts)
        self._index = bm25s.BM25()
        tokens = self._tokens(self._texts)
        if not any(tokens):
            raise UserError("the documents to look passages up in hold nothing but the most common words")
        self._index.index(tokens, show_progress=False)

    def look_up(self, questions: Sequence[str], hits: int) -> list[Looked]:
        """Best passages first."""
        vocabulary = self._index.vocab_dict
        return [self._one([w for w in words if w in vocabulary], hits) for words in self._tokens(questions)]

    def _one(self, words: list[str], hits: int) -> Looked:
        if not words:
            return Looked()
        return Looked.of([self._texts[k] for k in _best(self._index.get_scores(words), hits)])

    @staticmethod
    def _tokens(texts: Sequence[str]) -> list[list[str]]:
        import bm25s

        words: list[list[str]] = bm25s.tokenize(
            list(texts), token_pattern=_WORD, stopwords="en", return_ids=False, show_progress=False
        )
        return words


class VectorIndex:
    """Nearest passages by cosine. `vectors`: float32, shape (passages, hidden), of any length."""

    def __init__(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        self._texts, self._vectors = list(texts), _unit(vectors)

    def nearest(self, vectors: np.ndarray, hits: int) -> list[Looked]:
        """Best passages first for each question's vector, shape (questions, hidden).

        A passage whose vector does not point towards the question's at all (cosine 0 or less) is no hit.
        """
        found: list[Looked] = []
        for start in range(0, len(vectors), _AT_ONCE):
            scores = _unit(vectors[start : start + _AT_ONCE]) @ self._vectors.T
            found += [Looked.of([self._texts[k] for k in _best(row, hits)]) for row in scores]
        return found


def _best(scores: np.ndarray, hits: int) -> list[int]:
    """Places of the `hits` highest scores above 0, best first; equal ones in their order. One pass, no full sort."""
    import numpy as np

    least = np.partition(scores, -hits)[-hits] if hits < len(scores) else 0
    places = np.flatnonzero((scores >= least) & (scores > 0))
    order: list[int] = places[np.lexsort((places, -scores[places]))][:hits].tolist()
    return order


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; a zero vector stays zero."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return unit
