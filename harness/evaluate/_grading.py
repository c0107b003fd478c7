"""What grading by a judge has in common: which turns can be judged, and a grade for each that cannot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Reply, Request, Verdict
from harness.errors import UserError
from harness.evaluate._talk import missing
from harness.judges._gather import Unjudged, gather

RATING = (1.0, 10.0)
"""The lowest and the highest grade of a judge (see `Verdict`)."""


@dataclass(frozen=True)
class Question:
    """One thing to be judged: a turn of an item, with the model's answers (None: the item was never answered)."""

    item: EvalItem
    answer: Answer | None
    turn: int = 0


def judgements(
    questions: Sequence[Question], judge: Judge, context: Context
) -> Generator[Sequence[Request], Sequence[Reply], list[Verdict]]:
    """A verdict for each question, aligned; one that could not be had is marked as not parsed, with the reason."""
    absent = [missing(q.answer, q.turn) for q in questions]
    asked = [q for q, reason in zip(questions, absent, strict=True) if reason is None]
    made = iter((yield from gather([judge.judge(q.item, _given(q), q.turn, context) for q in asked])))
    return [_readable(next(made)) if reason is None else _lost(reason) for reason in absent]


def grade_of(question: Question, verdict: Verdict, values: Mapping[str, float | None], judge: str) -> Grade:
    """The grade that a verdict gives; `values` must already be None where the verdict gives none."""
    item, turns = question.item, len(question.item.turns)
    several = turns > 1
    return Grade(
        id=f"{item.id}/turn-{question.turn + 1}" if several else item.id,
        item=item.id,
        cluster=item.cluster or item.id,
        category=item.category,
        values=values,
        missing=None if verdict.parsed else verdict.reason,
        judge=judge,
        judge_text=verdict.raw or verdict.reason or None,
        judged_tokens=verdict.tokens,
        tags={"turn": str(question.turn + 1)} if several else {},
    )


def means(grades: Sequence[Grade], metric: str, by: str) -> dict[str, float | None]:
    """Means of a metric over the grades that have one, by category or by a tag: `score:math`, `score:turn-1`."""
    groups: dict[str, list[float]] = defaultdict(list)
    for grade in grades:
        value = grade.values.get(metric)
        name = grade.category if by == "category" else f"{by}-{grade.tags[by]}" if by in grade.tags else ""
        if value is not None and name:
            groups[name].append(value)
    return {f"{metric}:{name}": fmean(values) for name, values in groups.items()}


def required(judge: Judge | None, suite: str, advice: str) -> Judge:
    """The judge.

    Raises:
        UserError: there is none.
    """
    if judge is None:
        raise UserError(
            f"suite {suite!r} needs a judge, but the experiment binds none: add `judge: {advice}` under `models:`"
        )
    return judge


def _given(question: Question) -> Answer:
    if question.answer is None:
        raise ValueError(f"item {question.item.id} has no answer to judge")
    return question.answer


def _readable(made: Verdict | Unjudged) -> Verdict:
    if isinstance(made, Unjudged):
        return _lost(made.reason)
    if made.parsed and made.score is None and made.preference is None:
        return replace(made, parsed=False, reason=made.reason or "the verdict is empty")
    return made if made.parsed or made.reason else replace(made, reason="the verdict cannot be read")


def _lost(reason: str) -> Verdict:
    return Verdict(score=None, reason=reason, parsed=False)
