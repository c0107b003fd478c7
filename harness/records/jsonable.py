"""Records as JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def plain(value: Any, text: Callable[[str], str] = str) -> Any:
    """The value in mappings, lists and scalars; keys are texts, and numbers that do not exist (NaN) are null.

    Args:
        value: what dataclasses and parsed files are made of.
        text: what becomes of each text that is no key.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, text) for item in value]
    if isinstance(value, str):
        return text(value)
    return None if isinstance(value, float) and value != value else value
