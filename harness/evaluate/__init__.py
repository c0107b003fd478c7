"""Suites: one file per suite type. Each gives items, asks the model under test, and grades what it answered.

`selfcheck(suite)` proves a suite on itself. It is loaded when first asked for, because it knows all suite types.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Check", "selfcheck"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from harness.evaluate import _selfcheck

        return getattr(_selfcheck, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
