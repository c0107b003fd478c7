"""A program that stands where a judge model would, so that real data can go through every stage without one.

Its figures say nothing about quality. They are deterministic, cheap and not constant: all a dry run needs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Generator, Sequence
from typing import ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Reply, Request, Verdict
from harness.judges._tasks import opponent, order_of, scheme

_WORD = re.compile(r"\w+", re.UNICODE)


class StandIn(Judge):
    """Word overlap, length and repetition instead of a judgement; labelled as such wherever its figures appear."""

    name: ClassVar[str] = "stand_in"
    label: ClassVar[str] = "STAND-IN judge (a program; says nothing about quality)"
    stand_in: ClassVar[bool] = True

    good_length: int = identity(100, ge=1, description="Length from which on more words earn no more.", unit="words")

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """A score from 1 to 10 (or the rubric's best); for a pair the preference that two scores' difference gives."""
        yield from ()
        text, question = answer.outputs[turn], item.turns[turn]
        if order_of(item) is None:
            reference = item.reference[turn] if turn < len(item.reference) else ""
            own, score = scheme(item), self._score(text, question, reference or None)
            score = score if own is None else 1 + (score - 1) / 9 * (own.best - 1)
            return Verdict(score=score, reason="word overlap, length and repetition")
        difference = self._score(text, question, None) - self._score(opponent(item)[turn], question, None)
        return Verdict(score=None, preference=1 + 1 / (1 + math.exp(-difference)), reason="difference of two scores")

    def _score(self, text: str, question: str, reference: str | None) -> float:
        """1 for an empty text; else up to 10 from three shares: overlap, length, and words that are not repeats."""
        words = _WORD.findall(text.lower())
        if not words:
            return 1.0
        overlap = _f1(words, _WORD.findall((reference if reference is not None else question).lower()))
        length = min(1.0, len(words) / self.good_length) if reference is None else overlap
        fresh = len(set(words)) / len(words)
        return round(1 + 9 * (overlap + length + fresh * min(1.0, len(words) / 5)) / 3, 2)


def _f1(given: Sequence[str], wanted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words with their counts; 0 where either side is empty."""
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0
