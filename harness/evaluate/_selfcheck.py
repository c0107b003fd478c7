"""Proves a suite on itself before anything is spent: gold answers earn full marks, empty and shuffled ones almost none.

What a gold answer is, and what it must earn, a suite says itself (`Suite.gold`, `Suite.gold_value`): a pairwise suite's
is the other side's own answer, which draws. A suite whose grades come from a reader (a judge model) has no full marks
that a program could prove. It is checked with the stand-in judge, and only that gold answers come before shuffled and
empty ones. Shuffled: every item is given the gold answer of another item that has another one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Metric, Suite
from harness.errors import CannotTell, UserError
from harness.evaluate.pocket import Pocket
from harness.judges.oracle import Oracle
from harness.judges.stand_in import StandIn

NEAR_ZERO = 0.1
"""Share of full marks that chance may give to empty or shuffled answers (other words may say the same)."""
TRIES = 200
"""Items that are looked at for another gold answer; where all of these have the same, nothing is shuffled."""


@dataclass(frozen=True)
class Check:
    """One proof: what some answers earn, and what they must earn.

    Attributes:
        name: `gold`, `empty` or `shuffled`.
        value: mean headline value over `n` grades; None where nothing was graded.
        wanted: the demand, in words.
        judge: label of the judge that graded; `none` where the suite needs none.
        low: lower end of the 95 % interval of the value; None where it cannot be told.
        high: its upper end.
        missing: grades that could not be had.
    """

    name: str
    metric: str
    value: float | None
    wanted: str
    n: int
    passed: bool
    judge: str
    low: float | None = None
    high: float | None = None
    missing: int = 0


@dataclass(frozen=True)
class _Earned:
    values: tuple[float, ...]
    clusters: tuple[str, ...]
    missing: int

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None


def selfcheck(suite: Suite, judge: Judge | None = None, split: str = "test") -> list[Check]:
    """The checks of a suite on those of its items that have a gold answer. No model is asked.

    A programmatic `judge` is used as it is; where a model would judge, the suite's oracle or the stand-in does.

    Raises:
        UserError: no item has one, so nothing can be proved.
    """
    golds = [(item, gold) for item in suite.items(split) if (gold := suite.gold(item)) is not None]
    if len(golds) < 2:
        raise UserError(f"suite {suite.name!r}: its items have no gold answers, so there is nothing to check it with")
    items = [item for item, _ in golds]
    given = {"gold": [gold for _, gold in golds], "empty": [suite.empty(item) for item in items]}
    others, moved = _shuffled(suite, golds)
    if moved:
        given["shuffled"] = moved
    by = _judge(suite, judge)
    earned = {
        name: _earned(suite, others if name == "shuffled" else items, answers, by) for name, answers in given.items()
    }
    return [_check(name, earned, suite, by) for name in given]


def _judge(suite: Suite, judge: Judge | None) -> Judge | None:
    if not suite.needs_judge():
        return None
    if isinstance(judge, Oracle | StandIn):
        return judge
    return Oracle() if isinstance(suite, Pocket) else StandIn()


def _check(name: str, earned: Mapping[str, _Earned], suite: Suite, judge: Judge | None) -> Check:
    metric, mine = suite.metrics()[0], earned[name]
    wanted, passed = _demand(name, {key: found.mean for key, found in earned.items()}, metric, suite, judge)
    low, high = _interval(mine, metric)
    if mine.missing:
        wanted, passed = f"{wanted}; and every grade", False
    return Check(
        name=name,
        metric=metric.name,
        value=mine.mean,
        wanted=wanted,
        n=len(mine.values),
        passed=passed,
        judge="none" if judge is None else judge.label,
        low=low,
        high=high,
        missing=mine.missing,
    )


def _demand(
    name: str, means: Mapping[str, float | None], metric: Metric, suite: Suite, judge: Judge | None
) -> tuple[str, bool]:
    """What this mean must be, in words, and whether it is."""
    value, gold = means[name], means["gold"]
    others = [other for key, other in means.items() if key != "gold"]
    if value is None or gold is None or None in others:
        return "at least one grade", False
    better = 1 if metric.higher_is_better else -1
    full = suite.gold_value()
    middle = metric.bounds is not None and full not in metric.bounds
    if name == "gold" and full is not None and (middle or not isinstance(judge, StandIn)):
        words = f"{full:g}" + (": the other side's own answer draws with itself" if middle else "")
        return words, abs(value - full) < 1e-9
    if metric.bounds is None or isinstance(judge, StandIn):
        # No full marks to prove: only that right answers come first.
        if name == "gold":
            return "better than all others", all(better * (value - o) > 0 for o in others if o is not None)
        return f"worse than gold ({gold:.3g})", better * (value - gold) < 0
    low, high = metric.bounds
    if better > 0:
        bound = low + NEAR_ZERO * (high - low)
        return f"at most {bound:g}", value <= bound
    bound = high - NEAR_ZERO * (high - low)
    return f"at least {bound:g}", value >= bound


def _interval(earned: _Earned, metric: Metric) -> tuple[float | None, float | None]:
    from harness.stats import score

    try:
        found = score(earned.values, clusters=earned.clusters, bounds=metric.bounds)
    except CannotTell:
        return None, None
    return found.low, found.high


def _shuffled(suite: Suite, golds: Sequence[tuple[EvalItem, Answer]]) -> tuple[list[EvalItem], list[Answer]]:
    """Items with the gold answer of another one, about half the list away, that is not the same and fits."""
    count = len(golds)
    items, moved = [], []
    for index, (item, own) in enumerate(golds):
        for step in range(min(count - 1, TRIES)):
            other = golds[(index + count // 2 + step) % count][1]
            answer = replace(own, outputs=other.outputs, data=other.data)
            # Texts only: where the outputs agree but the data differ (log-likelihoods), the answer differs too.
            if (answer.outputs, answer.data) != (own.outputs, own.data) and _fits(suite, item, own, answer):
                items.append(item)
                moved.append(answer)
                break
    return items, moved


def _fits(suite: Suite, item: EvalItem, own: Answer, answer: Answer) -> bool:
    """Whether another item's answer could be one to this item: as many texts, and data of the same shape."""
    same = {name: _size(value) for name, value in own.data.items()} == {n: _size(v) for n, v in answer.data.items()}
    return same and suite.misfit(item, answer) is None


def _size(value: Any) -> int:
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 0


def _earned(suite: Suite, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None) -> _Earned:
    metric = suite.metrics()[0].name
    grades = _run(suite.grade(items, answers, judge, Context()))
    there = [
        (grade.values[metric], grade.cluster or grade.item) for grade in grades if grade.values[metric] is not None
    ]
    return _Earned(
        values=tuple(value for value, _ in there),
        clusters=tuple(cluster for _, cluster in there),
        missing=len(grades) - len(there),
    )


def _run(maker: Generator[Any, Any, Any]) -> Any:
    """Runs a grading that asks no model: programmatic judges yield only empty rounds."""
    try:
        requests = next(maker)
        while not requests:
            requests = maker.send([])
    except StopIteration as stop:
        return stop.value
    raise UserError("a self-check asks no model, but this suite's grading does")
