"""What grading by a judge has in common: which turns can be judged, and a grade for each that cannot."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean

from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Metric, Reply, Request, Verdict
from harness.errors import CannotTell, UserError
from harness.evaluate._talk import missing
from harness.judges._gather import Unjudged, gather
from harness.judges._tasks import repeat

RATING = (1.0, 10.0)
"""The lowest and the highest grade of a judge (see `Verdict`)."""
BETWEEN = "\n---\n"
"""Between the texts of several verdicts on one answer."""


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


def repeated(
    questions: Sequence[Question], judge: Judge, context: Context, repeats: int
) -> Generator[Sequence[Request], Sequence[Reply], list[tuple[Verdict, ...]]]:
    """For each question the verdicts of so many repeats, each with noise of its own."""
    asked = [replace(q, item=repeat(q.item, number)) for q in questions for number in range(repeats)]
    verdicts = yield from judgements(asked, judge, context)
    return [tuple(verdicts[start : start + repeats]) for start in range(0, len(verdicts), repeats)]


def scored(
    question: Question,
    verdicts: Sequence[Verdict],
    metric: str,
    judge: str,
    others: Mapping[str, float | None] | None = None,
) -> Grade:
    """The grade whose value is the mean score of the repeats that could be read; missing where none could.

    `others` are values of further metrics, which do not come from the judge; they stand before the metric.
    """
    scores = tuple(verdict.score for verdict in verdicts)
    there = [score for score in scores if score is not None]
    lost = next((v.reason for v in verdicts if v.reason and v.score is None), "the verdict has no grade")
    joined = replace(
        verdicts[0],
        parsed=bool(there),
        reason=verdicts[0].reason if there else lost,
        raw=BETWEEN.join(text for v in verdicts if (text := v.raw or v.reason)),
        tokens=sum(verdict.tokens for verdict in verdicts),
    )
    values = {**(others or {}), metric: fmean(there) if there else None}
    grade = grade_of(question, joined, values, judge)
    return grade if len(scores) == 1 else replace(grade, repeats={metric: scores})


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


def means(grades: Sequence[Grade], metric: Metric, by: str) -> dict[str, float | None]:
    """Means of a metric by `category` or by a tag, with their intervals: `score:math`, `score:math.low`, ...

    Each name has `.low` and `.high` (95 %, clustered by question), `.n` (grades) and `.missing` (those without a
    value, which widen the interval) beside it. A group without any value has None.
    """
    groups: dict[str, list[Grade]] = defaultdict(list)
    for grade in grades:
        name = grade.category if by == "category" else f"{by}-{grade.tags[by]}" if by in grade.tags else ""
        if name:
            groups[name].append(grade)
    found: dict[str, float | None] = {}
    for name, group in groups.items():
        values = [grade.values.get(metric.name) for grade in group]
        found |= interval(f"{metric.name}:{name}", values, [grade.cluster for grade in group], metric.bounds)
    return found


def interval(
    name: str,
    values: Sequence[float | None],
    clusters: Sequence[str],
    bounds: tuple[float, float] | None,
    scale: float = 1.0,
) -> dict[str, float | None]:
    """The mean of values (None: missing) as `name`, `name.low`, `name.high`, `name.n` and `name.missing`."""
    from harness.stats import score

    filled = [math.nan if value is None else value for value in values]
    there = [value for value in values if value is not None]
    value = fmean(there) if there else None
    low = high = None
    if value is not None:
        with suppress(CannotTell):
            estimate = score(filled, clusters=clusters, bounds=bounds)
            # Rounding must not put the value outside its own interval.
            low, high = min(estimate.low, value) * scale, max(estimate.high, value) * scale
    counts = {f"{name}.n": float(len(values)), f"{name}.missing": float(len(values) - len(there))}
    mean = None if value is None else value * scale
    return {name: mean, f"{name}.low": low, f"{name}.high": high} | counts


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
