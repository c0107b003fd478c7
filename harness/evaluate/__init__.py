"""Suites: one file per suite type. Each gives items, asks the model under test, and grades what it answered.

`selfcheck(suite)` proves a suite on itself, `flag(items, answers)` finds answers that talk to the judge, and
`annotation_rows(...)` writes graded pairs in alpaca-eval's form. Each is loaded when first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Check", "annotation_rows", "flag", "selfcheck"]
_PLACES = {"Check": "_selfcheck", "annotation_rows": "_annotations", "flag": "_flags", "selfcheck": "_selfcheck"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"harness.evaluate.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
