"""Orders of rows that depend on their ids alone, never on their place in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def hashed(ids: Iterable[str], salt: str = "") -> np.ndarray:
    """64-bit hashes of the ids, uint64, shape (rows,)."""
    import numpy as np

    prefix = salt.encode()
    digests = b"".join(hashlib.blake2b(prefix + name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8")
