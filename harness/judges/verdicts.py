"""Reads verdicts out of what a judge wrote, and nothing else."""

from __future__ import annotations

import re
from typing import Literal

_RATING = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]")
_RATING_BACKUP = re.compile(r"\[(\d+(?:\.\d+)?)\]")
_LETTER = re.compile(r"\[\[([ABC])\]\]")
_SCALE = re.compile(r"\[\[([AB<>=]+)\]\]")
_WINNERS = {
    1.0: ("A>>B", "A>B", "B<A", "B<<A"),
    1.5: ("A=B", "B=A"),
    2.0: ("B>>A", "B>A", "A<B", "A<<B"),
}
_STEPS = {verdict: winner for winner, verdicts in _WINNERS.items() for verdict in verdicts}


def rating(text: str, pattern: str | None = None, best: float = 10, *, bare: bool = False) -> float | None:
    """The grade in `[[n]]`; None without one or outside 1..`best`. With `bare`, `[n]` counts where there is no `[[n]]`.

    Both are FastChat's forms (arXiv 2306.05685, `llm_judge/common.py`); the bare one is for its prompts alone, as in
    answers to other wordings `[1]` may be a footnote. Where FastChat takes the first grade of several, grades that
    differ are none here: a judge that quotes `[[10]]` from an answer has not given it. With `pattern`, the grade is
    that regular expression's first group instead.
    """
    if pattern:
        match = re.search(pattern, text.strip())
        found = {match[1]} if match else set()
    else:
        found = set(_RATING.findall(text)) or (set(_RATING_BACKUP.findall(text)) if bare else set())
    values = {float(grade) for grade in found}
    value = values.pop() if len(values) == 1 else None
    return value if value is not None and 1 <= value <= best else None


def choice(text: str) -> str | None:
    """`A`, `B` or `C` (a tie) from `[[A]]`; None where there is none, or where the text names more than one."""
    letters = set(_LETTER.findall(text))
    return letters.pop() if len(letters) == 1 else None


def scale(text: str) -> tuple[float, bool] | None:
    """Arena-Hard's verdict `[[A>>B]]` .. `[[B>>A]]`: which side wins (1: A, 1.5: neither, 2: B), and whether by far.

    None where there is none, or where the text gives several that differ (arena-hard-auto, `gen_judgment.py`).
    """
    found = stated(text)
    if len(found) != 1:
        return None
    verdict = found.pop()
    return _STEPS[verdict], ">>" in verdict or "<<" in verdict


def stated(text: str) -> set[str]:
    """All different verdicts on Arena-Hard's scale that a text gives; other double brackets are none."""
    return {match for match in _SCALE.findall(text) if match in _STEPS}


def preference(value: float, order: Literal["answer first", "reference first"]) -> float:
    """A preference for the first (1) or the second (2) shown, as one for the reference (1) or the answer (2)."""
    return 3 - value if order == "answer first" else value
