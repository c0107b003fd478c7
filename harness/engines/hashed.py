"""`hashed`: an embedder that needs no model and no download. Like words give like vectors; it knows no meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.engines.base import ModelSpec

if TYPE_CHECKING:
    import numpy as np

WIDTH = 1024
REVISION = f"hashed words and pairs of words, {WIDTH} buckets, signed, unit length"
"""The identity of what it gives; another text here is another embedder."""


class HashedEngine:
    """Counts of words and of pairs of neighbouring words, hashed into signed buckets, to unit length.

    A word is a run of letters or digits, or one other sign. A text without any has no vector (NaN).
    """

    def __init__(self, spec: ModelSpec) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self.spec = spec
        self._vectorizer: Any = HashingVectorizer(
            n_features=WIDTH, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", norm="l2", dtype="float32"
        )

    @property
    def chat(self) -> None:
        """It has no tokenizer."""
        return None

    def embed_texts(self, texts: Sequence[str], max_tokens: Sequence[int | None] = ()) -> np.ndarray:
        """Vectors of whole texts (it counts no tokens): float32, shape (len(texts), 1024)."""
        import numpy as np

        found = np.asarray(self._vectorizer.transform(texts).toarray(), dtype=np.float32)
        found[~found.any(1)] = np.nan
        return found

    def close(self) -> None:
        """Nothing to give back."""
