"""Proves a suite on itself before anything is spent: gold answers earn full marks, empty and shuffled ones almost none.

A suite whose grades come from a reader (a judge model) has no full marks that a program could prove. It is checked with
the stand-in judge, and only that gold answers come before shuffled and empty ones.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Metric, Suite
from harness.errors import UserError
from harness.evaluate import _lm_ask
from harness.evaluate.lm_eval import LMEval
from harness.evaluate.pairwise import Pairwise
from harness.evaluate.pocket import Pocket
from harness.judges.oracle import Oracle
from harness.judges.stand_in import StandIn

NEAR_ZERO = 0.1
"""Share of full marks that chance may give to empty or shuffled answers (some questions share their answer)."""


@dataclass(frozen=True)
class Check:
    """One proof: what some answers earn, and what they must earn.

    Attributes:
        name: `gold`, `empty` or `shuffled`.
        value: mean headline value over `n` grades; None where nothing was graded.
        wanted: the demand, in words.
        judge: label of the judge that graded; `none` where the suite needs none.
    """

    name: str
    metric: str
    value: float | None
    wanted: str
    n: int
    passed: bool
    judge: str


def selfcheck(suite: Suite, judge: Judge | None = None, split: str = "test") -> list[Check]:
    """The checks of a suite on those of its items that have a gold answer. No model is asked.

    A programmatic `judge` is used as it is; where a model would judge, the suite's oracle or the stand-in does.

    Raises:
        UserError: no item has one, so nothing can be proved.
    """
    golds = [(item, gold) for item in suite.items(split) if (gold := _gold(suite, item)) is not None]
    if len(golds) < 2:
        raise UserError(f"suite {suite.name!r}: its items have no gold answers, so there is nothing to check it with")
    items = [item for item, _ in golds]
    given = {"gold": [gold for _, gold in golds], "empty": [_empty(suite, item) for item in items]}
    if all(gold.outputs and not gold.data for _, gold in golds):
        given["shuffled"] = _shuffled(given["gold"])
    if not suite.needs_judge():
        judge = None
    elif not isinstance(judge, Oracle | StandIn):
        judge = Oracle() if isinstance(suite, Pocket) else StandIn()
    earned = {name: _earned(suite, items, answers, judge) for name, answers in given.items()}
    return [_check(name, earned, suite, judge) for name in given]


def _check(name: str, earned: Mapping[str, Sequence[float]], suite: Suite, judge: Judge | None) -> Check:
    metric = suite.metrics()[0]
    means = {key: fmean(values) if values else None for key, values in earned.items()}
    wanted, passed = _demand(name, means, metric, suite, judge)
    return Check(
        name=name,
        metric=metric.name,
        value=means[name],
        wanted=wanted,
        n=len(earned[name]),
        passed=passed,
        judge="none" if judge is None else judge.label,
    )


def _demand(
    name: str, means: Mapping[str, float | None], metric: Metric, suite: Suite, judge: Judge | None
) -> tuple[str, bool]:
    """What this mean must be, in words, and whether it is."""
    value, gold = means[name], means["gold"]
    if value is None or gold is None:
        return "at least one grade", False
    if metric.bounds is None:
        return f"a metric with bounds: {metric.name} has none, so nobody knows what full marks are", False
    low, high = metric.bounds
    if isinstance(suite, Pairwise) and name == "gold":
        return "0.5: the reference draws with itself", value == (low + high) / 2
    if isinstance(judge, StandIn) and name == "gold":
        others = [other for key, other in means.items() if key != name and other is not None]
        return "above all others", value > max(others)
    if isinstance(judge, StandIn):
        return f"below gold ({gold:.3g})", value < gold
    if name == "gold":
        return f"{high:g}", value == high
    bound = low + NEAR_ZERO * (high - low)
    return f"at most {bound:g}", value <= bound


def _gold(suite: Suite, item: EvalItem) -> Answer | None:
    if isinstance(suite, LMEval):
        return _lm_ask.gold(item)
    whole = len(item.reference) == len(item.turns)
    return Answer(item=item.id, outputs=item.reference) if whole else None


def _empty(suite: Suite, item: EvalItem) -> Answer:
    nothing = Answer(item=item.id, outputs=("",) * len(item.turns))
    return (_lm_ask.empty(item) or nothing) if isinstance(suite, LMEval) else nothing


def _shuffled(answers: Sequence[Answer]) -> list[Answer]:
    """Every item gets the outputs of another, about half the list away."""
    shift = len(answers) // 2 + 1
    moved = [*answers[shift:], *answers[:shift]] if shift < len(answers) else list(reversed(answers))
    return [replace(answer, outputs=other.outputs) for answer, other in zip(answers, moved, strict=True)]


def _earned(suite: Suite, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None) -> list[float]:
    metric = suite.metrics()[0].name
    grades = _run(suite.grade(items, answers, judge, Context()))
    return [value for grade in grades if (value := grade.values[metric]) is not None]


def _run(maker: Generator[Any, Any, Any]) -> Any:
    """Runs a grading that asks no model: programmatic judges yield only empty rounds."""
    try:
        requests = next(maker)
        while not requests:
            requests = maker.send([])
    except StopIteration as stop:
        return stop.value
    raise UserError("a self-check asks no model, but this suite's grading does")
