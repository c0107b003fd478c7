"""Scores of an lm-eval suite that are no plain means over its items: corpus metrics, tasks and groups.

Every number stands with its interval (`<name>.low`, `<name>.high`), its sample (`<name>.n`) and the grades that are
missing (`<name>.missing`). A corpus metric (a perplexity, BLEU) is lm-eval's own aggregation of recorded raw values;
its interval comes from pseudo-values: what leaving out each of up to 100 blocks of items does to it (the delete-group
jackknife; Efron and Tibshirani 1993, chapter 11), perplexities on the logarithmic scale.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.blocks.kinds import Grade
from harness.errors import CannotTell
from harness.evaluate._lm_metrics import Measured, measured
from harness.evaluate._lm_quiet import quiet
from harness.evaluate._lm_spec import Group, Leaf

RAW = "raw"
"""The tag of a grade that holds the raw values of corpus metrics: JSON, item name to value."""
CUT = "cut"
"""The tag of a grade that counts the tokens that did not fit the model and were cut off at the left."""
_BLOCKS = 100
_SMOOTHLESS = "median"


@dataclass(frozen=True)
class Value:
    """A score with its interval (None: cannot be told), sample size and missing grades."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int

    def named(self, name: str) -> dict[str, float | None]:
        """As entries of a suite's summary."""
        ends = {f"{name}.low": self.low, f"{name}.high": self.high}
        return {name: self.value, **ends, f"{name}.n": self.n, f"{name}.missing": self.missing}


def summary(
    tree: Group, metrics: Sequence[Measured], config: Mapping[str, Any], grades: Sequence[Grade]
) -> dict[str, float | None]:
    """Corpus metrics of every task; where there are several tasks, also all metrics by task and by group."""
    by_task: dict[str, list[Grade]] = {leaf.name: [] for leaf in tree.leaves()}
    for grade in grades:
        by_task.setdefault(grade.category, []).append(grade)
    several = len(tree.leaves()) > 1
    found: dict[str, float | None] = {}
    for leaf in tree.leaves():
        for metric in measured(leaf, config):
            suffix = f":{leaf.name}" if several else ""
            if not metric.mean:
                found |= _corpus(leaf, metric, config, by_task[leaf.name]).named(metric.name + suffix)
            elif several and metric in metrics:
                found |= _mean(metric, by_task[leaf.name]).named(metric.name + suffix)
    if several:
        for group in tree.groups():
            for metric in metrics:
                if metric.mean and (group.weights is None or metric.metric in group.weights):
                    found |= _of_group(group, metric, by_task).named(f"{metric.name}:{group.name}")
    if cut := sum(CUT in grade.tags for grade in grades):
        found["n_cut"] = float(cut)
    return found


def item_value(task: Any, metric: Measured, value: Any) -> float | None:
    """What a metric gives for one item: its value, or lm-eval's aggregation of that item alone; None for no number."""
    if metric.mean or value is None:
        return number(value)
    try:
        with quiet():
            return number(task.aggregation()[metric.metric]([value]))
    except OverflowError:  # a perplexity beyond all numbers
        return None


def number(value: Any) -> float | None:
    """A value as a number, None where it is none or not finite."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def jackknife(values: Sequence[Any], statistic: Callable[[list[Any]], float], log: bool = False) -> Value:
    """A statistic of all values with its interval; `log`: computed on its logarithm, for what is positive, skewed."""
    from harness.stats import score

    def of(rows: Sequence[Any]) -> float:
        return math.log(statistic(list(rows))) if log else float(statistic(list(rows)))

    whole, blocks = of(values), min(len(values), _BLOCKS)
    back = math.exp if log else float
    if blocks < 2:
        return Value(back(whole), None, None, len(values), 0)
    with suppress(CannotTell, ArithmeticError, ValueError):
        left = [of([v for i, v in enumerate(values) if i % blocks != block]) for block in range(blocks)]
        found = score([blocks * whole - (blocks - 1) * one for one in left])
        half = (found.high - found.low) / 2
        return Value(back(whole), back(whole - half), back(whole + half), len(values), 0)
    return Value(back(whole), None, None, len(values), 0)


def _corpus(leaf: Leaf, metric: Measured, config: Mapping[str, Any], grades: Sequence[Grade]) -> Value:
    """lm-eval's aggregation of a task's raw values; nothing is concluded where some are missing."""
    raw = [json.loads(g.tags[RAW]) for g in grades if RAW in g.tags]
    values = [row[metric.item_name] for row in raw if row.get(metric.item_name) is not None]
    missing = len(grades) - len(values)
    if not values:
        return Value(None, None, None, 0, missing)
    aggregate = _aggregation(leaf, metric, config)
    with quiet():
        if getattr(aggregate, "__name__", "") == _SMOOTHLESS:
            return Value(float(aggregate(values)), None, None, len(values), missing)
        try:
            found = jackknife(values, aggregate, log="perplexity" in metric.metric)
        except ArithmeticError:  # beyond all numbers
            return Value(None, None, None, len(values), missing)
    if missing:
        return Value(found.value, None, None, found.n, missing)
    return found


def _aggregation(leaf: Leaf, metric: Measured, config: Mapping[str, Any]) -> Callable[[list[Any]], float]:
    """The function with which lm-eval aggregates a metric of a task."""
    with quiet():
        from lm_eval.api.registry import get_aggregation, get_metric_aggregation
        from lm_eval.tasks._yaml_loader import load_yaml

        spec = {**load_yaml(leaf.file), **leaf.overrides, **config}
        names = {getattr(m["metric"], "__name__", m["metric"]): m for m in spec.get("metric_list") or ()}
        named = names.get(metric.metric, {}).get("aggregation")
        found: Any = get_aggregation(named) if isinstance(named, str) else named
        function: Callable[[list[Any]], float] = found or get_metric_aggregation(metric.metric)
    return function


def _mean(metric: Measured, grades: Sequence[Grade]) -> Value:
    """The mean over items with its interval."""
    from harness.stats import score

    values = [grade.values.get(metric.item_name) for grade in grades]
    given = [v for v in values if v is not None]
    missing = len(values) - len(given)
    if not given:
        return Value(None, None, None, len(values), missing)
    with suppress(CannotTell):
        numbers = [math.nan if v is None else v for v in values]
        found = score(numbers, clusters=[g.cluster for g in grades], bounds=metric.as_metric().bounds)
        return Value(found.value, found.low, found.high, found.n, missing)
    return Value(sum(given) / len(given), None, None, len(values), missing)


def _of_group(group: Group, metric: Measured, by_task: Mapping[str, Sequence[Grade]]) -> Value:
    """A group's score: over all items where tasks weigh by size, else the mean of the tasks' scores.

    The interval of the latter joins those of the tasks (MOVER; Zou and Donner 2008, Statistics in Medicine 27: 1693).
    """
    tasks = [by_task[leaf.name] for leaf in group.leaves() if by_task.get(leaf.name)]
    if group.weights is None or group.weights[metric.metric]:
        return _mean(metric, [grade for grades in tasks for grade in grades])
    parts = [_mean(metric, grades) for grades in tasks]
    given = [(p.value, p.low, p.high) for p in parts if p.value is not None]
    n, missing = sum(p.n for p in parts), sum(p.missing for p in parts)
    if not given or len(given) < len(parts):  # a task without any grade: the mean of the others is another figure
        return Value(None, None, None, n, missing)
    value = sum(v for v, _, _ in given) / len(given)
    down = [v - low for v, low, _ in given if low is not None]
    up = [high - v for v, _, high in given if high is not None]
    if len(down) < len(parts):
        return Value(value, None, None, n, missing)
    return Value(value, value - math.hypot(*down) / len(parts), value + math.hypot(*up) / len(parts), n, missing)
