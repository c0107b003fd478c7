"""Canonical hashes and the seeds derived from them.

Everything that identifies something (an example, a stage, a row's random numbers) goes through `canonical`, so two
values are equal exactly when their bytes are. A value without one stable form is refused rather than guessed: floats
must be finite, mapping keys must be strings, sets and objects are not accepted.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> str:
    """One JSON text for a value, whatever the order of its keys.

    Raises:
        TypeError: the value holds something with no stable form (a set, an object, NaN, a key that is no string).
    """
    return _ENCODER.encode(_plain(value, "value"))


def texts_sha256(texts: Sequence[str | Sequence[str] | None]) -> str:
    """As `sha256` of a list of texts and of lists of texts, which are canonical as they are."""
    return hashlib.sha256(_ENCODER.encode(texts).encode()).hexdigest()


def sha256(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical form of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def seed_of(*parts: Any) -> int:
    """A 63-bit seed from parts such as (data seed, block, iteration, item id, draw)."""
    return int(sha256(list(parts))[:16], 16) >> 1


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}: a number that is not finite has no stable form")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}: keys must be strings")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}, which has no stable form")
