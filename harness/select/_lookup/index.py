"""Indexes over passages that are held in memory: by words (BM25) or by vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.select._lookup.base import Looked

if TYPE_CHECKING:
    import numpy as np

_WORD = r"(?u)\b\w+\b"


class WordIndex:
    """BM25 over lower-case words without the most common ones, through the library bm25s (its method `lucene`).

    A passage that shares no word with the question is no hit. Equal scores go to the earlier passage.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._texts = list(texts)
        self._index = bm25s.BM25()
        self._index.index(self._tokens(self._texts), show_progress=False)

    def look_up(self, questions: Sequence[str], hits: int) -> list[Looked]:
        """Best passages first."""
        vocabulary = self._index.vocab_dict
        return [self._one([w for w in words if w in vocabulary], hits) for words in self._tokens(questions)]

    def _one(self, words: list[str], hits: int) -> Looked:
        import numpy as np

        if not words:
            return Looked()
        scores = self._index.get_scores(words)
        best = np.lexsort((np.arange(len(scores)), -scores))[:hits]
        return Looked.of([self._texts[k] for k in best if scores[k] > 0])

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
        import numpy as np

        scores = _unit(vectors) @ self._vectors.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :hits]
        return [
            Looked.of([self._texts[k] for k in best if row[k] > 0]) for row, best in zip(scores, order, strict=True)
        ]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; a zero vector stays zero."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return unit
