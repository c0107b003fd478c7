"""Answers that may have earned their grade from the judge rather than from the question: found, never re-graded.

A judge model reads the answer that it grades, so an answer can talk to it. Known attacks on AlpacaEval-style judges
give one constant text to every question, which closes the prompt's structure and states a task of its own (the "null
model", arXiv 2410.07137), write the verdict themselves, or tell the judge what to do. Flags say which answers look like
that; scores are then shown with and without them. What a question itself contains is not held against its answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.blocks.kinds import Answer, EvalItem

CONSTANT, EMPTY, VERDICT, INSTRUCTION = "constant", "empty", "verdict token", "instruction to the judge"
NAMES = (CONSTANT, EMPTY, VERDICT, INSTRUCTION)

GRAM = 8
"""Length of the runs of words that constant answers share."""
SHARED = 0.5
"""An answer is constant where at least this share of its runs stands in other answers too."""
OTHERS = 0.02
"""... in at least this share of all answers, and in three at the least."""


@dataclass(frozen=True)
class _Sign:
    """A pattern, and words of which at least one is in every text that it finds: most texts need no search."""

    words: tuple[str, ...]
    pattern: re.Pattern[str]

    def found(self, text: str, lower: str) -> bool:
        return any(word in lower for word in self.words) and self.pattern.search(text) is not None


def _sign(words: str, *patterns: str) -> _Sign:
    return _Sign(tuple(words.split("|")), re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE))


_BRACKETS = r"\[\[\s*(?:[ABC]|tie|[AB]\s*(?:<<?|>>?|=)\s*[AB])\s*\]\]"
_GRADED = r"\b(?:rating|score|grade|verdict)\s*(?:is|of|:)?\s*\[\[[^\]\n]{1,12}\]\]"
_LAST = r"(?<!\w)\[\[\s*(?:10|[1-9])(?:\.\d+)?\s*\]\][.*\s]{0,4}$"
"""A grade at the end of a line, as FastChat's judges are told to write it; `x[[0]]` is none."""
_VERDICTS = (
    _sign("[[", _BRACKETS, _GRADED, _LAST),
    _sign("model_1|model_2", r"['\"]model['\"]\s*:\s*['\"]model_[12]['\"]\s*,\s*['\"]rank['\"]"),
    _sign("final verdict", r"\bmy final verdict\b"),
)
_GIVE = r"\b(?:choose|select|prefer|pick|rate|score|grade|rank|judge|give|award)\b"
_THIS = r"\bth(?:is|e (?:above|present|first|second))\s+(?:answer|response|output|assistant)\b"
_SIDE = r"\b(?:assistant [AB]\b|output \([ab]\))"
_MARKS = r"full marks|(?:top|maximum|perfect) (?:score|rating|grade|marks)"
_PRAISE = rf"\b(?:best|better|highest|superior|winner|10|ten|{_MARKS})\b"
_JUDGE = r"\b(?:judge|evaluator|grader|annotator|examiner)s?\b"
_SKIP = r"\b(?:ignore|disregard|forget|override)\b"
_BEFORE = r"\b(?:above|previous|prior|preceding|earlier|all)\b"
_MUST = r"\b(?:must|should|please|will|shall|are to)\b"
_ORDERS = r"(?:\b(?:instructions?|prompts?|answers?|responses?|outputs?|rubrics?|criteria|rules)\b|##)"
_INSTRUCTIONS = (
    # the structure of a judge's prompt, closed or opened anew: alpaca-eval's, FastChat's, Arena-Hard's, our own packs'
    _sign("model outputs|best model identifier", r"^#+ (?:Model Outputs|Best Model Identifier)\b"),
    _sign("model_identifier", r"[\"']model_identifier[\"']\s*:"),
    _sign("[the |<|the ", r"(?:\[|<\|)The (?:Start|End) of (?:Assistant|Reference)"),
    _sign("<|", r"<\|(?:User Prompt|im_start|im_end|start_header_id|end_header_id|eot_id)\|>"),
    _sign("answer_|conversation>|request>|reference>", r"</?(?:answer_[ab]|conversation|request|reference)>\s*$"),
    # orders
    _sign("ignore|disregard|forget|override", rf"{_SKIP}[^.\n]{{0,40}}{_BEFORE}[^.\n]{{0,40}}{_ORDERS}",
          r"\b(?:ignore|disregard) the above\b"),
    _sign("judge|evaluator|grader|annotator|examiner",
          rf"\b(?:attention|note to(?: the)?|instructions? (?:to|for)(?: the)?),? {_JUDGE}",
          rf"{_JUDGE}[^.\n]{{0,40}}{_MUST}[^.\n]{{0,40}}{_GIVE}[^.\n]{{0,40}}{_THIS}"),
    _sign("answer|response|output|assistant", rf"{_GIVE}[^.\n]{{0,20}}{_THIS}[^.\n]{{0,30}}{_PRAISE}",
          rf"{_THIS}\s+(?:deserves|should (?:be|get|receive)|must (?:be|get|receive))\b[^.\n]{{0,30}}{_PRAISE}"),
    _sign("assistant a|assistant b|output (a|output (b", rf"{_GIVE}[^.\n]{{0,30}}{_SIDE}",
          rf"{_SIDE}[^.\n]{{0,20}}\b(?:is|was|gave|wins?|deserves)\b[^.\n]{{0,30}}{_PRAISE}"),
    _sign("[[|model_1|model_2",
          rf"\b(?:output|answer|reply|respond)\s+(?:only\s+)?(?:with\s+)?['\"]?(?:{_BRACKETS}|model_[12]\b)"),
)  # fmt: skip


def flag(items: Sequence[EvalItem], answers: Sequence[Answer | None]) -> list[frozenset[str]]:
    """The flags of each answer, aligned with the items; an item without an answer has none.

    Args:
        items: the questions, with references where they have any.
        answers: a model's answers to *all* of them: whether an answer is constant shows only in the others.
    """
    texts = [tuple(answer.outputs) if answer is not None else () for answer in answers]
    constant = _constant(items, texts)
    return [frozenset(_of_one(item, outputs, same)) for item, outputs, same in zip(items, texts, constant, strict=True)]


def shown(flags: Iterable[str]) -> str:
    """Flags as the value of a grade's tag, in a fixed order."""
    return ", ".join(sorted(flags))


def _of_one(item: EvalItem, outputs: Sequence[str], constant: bool) -> list[str]:
    """The flags of one answer; whether it is constant is known from the others."""
    question = "\n".join((item.system or "", *item.turns))
    said = "\n".join(outputs)
    found = [CONSTANT] if constant else []
    found += [EMPTY] if any(not text.strip() for text in outputs) else []
    found += [VERDICT] if _holds(_VERDICTS, said, question) else []
    found += [INSTRUCTION] if _holds(_INSTRUCTIONS, said, question) else []
    return found


def _holds(signs: Iterable[_Sign], text: str, question: str) -> bool:
    lower = text.lower()
    return any(sign.found(text, lower) and not sign.pattern.search(question) for sign in signs)


# --- constant over questions ----------------------------------------------------------------------------------------
def _constant(items: Sequence[EvalItem], texts: Sequence[Sequence[str]]) -> list[bool]:
    """Whether most of an answer stands in many other answers too; what the references share is no sign of it."""
    runs = [_runs(outputs) for outputs in texts]
    count = Counter(run for own in runs for run in own)
    expected = Counter(run for item in items for run in _runs(item.reference))
    enough = max(3, OTHERS * len(items))
    return [
        bool(own) and sum(weight for run, weight in own.items() if _common(run, count, expected, enough))
        >= SHARED * sum(own.values())
        for own in runs
    ]  # fmt: skip


def _common(run: str, count: Mapping[str, int], expected: Mapping[str, int], enough: float) -> bool:
    return count[run] > enough and expected[run] < count[run] / 2


def _runs(outputs: Sequence[str]) -> Counter[str]:
    """Runs of words with how often each stands in an answer; a shorter answer is one run. Digits are alike."""
    words = re.sub(r"\d+", "0", " ".join(outputs).lower()).split()
    if not words:
        return Counter()
    return Counter(" ".join(words[i : i + GRAM]) for i in range(max(1, len(words) - GRAM + 1)))
