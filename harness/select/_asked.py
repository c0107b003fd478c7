"""Vectors of texts that no column holds, asked for in batches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import Embed, Reply, Request, Tolerant

if TYPE_CHECKING:
    import numpy as np

BATCH = 256
LONGEST = 512
"""Tokens of a text that are embedded; the rest is left out."""


def vectors(texts: Sequence[str], role: str) -> Generator[Sequence[Request], Sequence[Reply], np.ndarray]:
    """Mean-pooled vectors by the model of a role: float32, shape (texts, hidden); zeros for a text without tokens."""
    import numpy as np

    found: list[Any] = []
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        found += yield Tolerant(Embed(model=role, text=text, max_tokens=LONGEST) for text in part)
    good = next((one for one in found if not isinstance(one, Exception)), None)
    empty = np.zeros(1 if good is None else len(good), dtype=np.float32)
    return np.stack([empty if isinstance(one, Exception) else one for one in found])
