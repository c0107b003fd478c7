"""Answers that a length cap cut off: they say so in their fields, and are trained without an end token.

A cut answer with an end token teaches a model to stop anywhere, and tells both sides of a preference pair apart by
their ends alone (arXiv 2401.01335 as released: answers cut at 256 tokens, an end token appended to each).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.records.example import Example

CUT_ANSWER = "answer_cut"
"""Field of a row whose answer was cut (True)."""
CUT_REJECTED = "rejected_cut"
"""Field of a pair whose rejected answer was cut (True)."""
CUT_PARENT = "parent_cut"
"""Field of a row whose `parent_answer` was cut (True)."""


def is_cut(row: Example, which: str = CUT_ANSWER) -> bool:
    """True where the row says so."""
    return row.fields.get(which) is True


def with_cuts(fields: Mapping[str, Any], **cuts: bool) -> dict[str, Any]:
    """Fields that say of just these answers, by field name, that they were cut."""
    kept = {name: value for name, value in fields.items() if name not in (CUT_ANSWER, CUT_REJECTED, CUT_PARENT)}
    return kept | {name: True for name, cut in cuts.items() if cut}
