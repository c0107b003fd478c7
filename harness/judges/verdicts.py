"""Reads verdicts out of what a judge wrote, and nothing else."""

from __future__ import annotations

import re

_RATING = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]")
_RATING_BACKUP = re.compile(r"\[(\d+(?:\.\d+)?)\]")
_LETTER = re.compile(r"\[\[([ABC])\]\]")


def rating(text: str, pattern: str | None = None) -> float | None:
    """The grade in `[[n]]`, or in `[n]` where there is none; None without one or outside 1..10.

    The first match counts, as in FastChat (arXiv 2306.05685, `llm_judge/common.py`). With `pattern`, the grade is that
    regular expression's first group instead.
    """
    match = re.search(pattern, text.strip()) if pattern else _RATING.search(text) or _RATING_BACKUP.search(text)
    value = float(match[1]) if match else None
    return value if value is not None and 1 <= value <= 10 else None


def choice(text: str) -> str | None:
    """`A`, `B` or `C` (a tie) from `[[A]]`; None where there is none, or where the text names more than one."""
    letters = set(_LETTER.findall(text))
    return letters.pop() if len(letters) == 1 else None
