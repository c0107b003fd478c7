"""Grades of one lm-eval task: its filters and metrics, `numeric` beside them, raw values for what is no mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.blocks.kinds import Answer, EvalItem, Grade
from harness.errors import UserError
from harness.evaluate import _lm_ask, _lm_task
from harness.evaluate._lm_metrics import NUMERIC, Measured
from harness.evaluate._lm_spec import Leaf
from harness.evaluate._lm_summary import CUT, RAW, item_value
from harness.records.numbers import final_number, same_number

Pair = tuple[EvalItem, Answer]


def grades(
    task: Any, leaf: Leaf, pairs: Sequence[Pair], names: Sequence[str], metrics: Sequence[Measured]
) -> list[Grade]:
    """Aligned grades of items of one task, with a value for each of `names`."""
    reasons = [_lm_ask.absent(item, answer) for item, answer in pairs]
    given = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
    numbers = [_lm_ask.document_number(item) for item, _ in given]
    results = iter(_lm_task.process(task, numbers, [_lm_ask.responses(item, answer) for item, answer in given]))
    return [
        _bare(item, dict.fromkeys(names), reason, {})
        if reason is not None
        else _grade(task, item, answer, next(results), names, metrics)
        for (item, answer), reason in zip(pairs, reasons, strict=True)
    ]


def _grade(
    task: Any,
    item: EvalItem,
    answer: Answer,
    results: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
    metrics: Sequence[Measured],
) -> Grade:
    given = {m.item_name: results.get(m.filter, {}).get(m.metric) for m in metrics}
    values: dict[str, float | None] = {NUMERIC: _numeric(item, answer)} if NUMERIC in names else {}
    values |= {m.item_name: item_value(task, m, given[m.item_name]) for m in metrics if m.item_name in names}
    raw = {m.item_name: given[m.item_name] for m in metrics if not m.mean}
    tags = {RAW: json.dumps(raw, default=_plain)} if raw else {}
    if cut := answer.data.get(_lm_ask.CUT):
        tags[CUT] = str(cut)
    absent = [name for name in names if values[name] is None]
    return _bare(item, {name: values[name] for name in names}, f"lm-eval gave no {absent[0]}" if absent else None, tags)


def _numeric(item: EvalItem, answer: Answer) -> float:
    """The share of the item's answers that end in the gold number."""
    gold = item.reference[0]
    if final_number(gold) is None:
        raise UserError(
            f"item {item.id}: its gold answer {gold[-40:]!r} has no number, so `numeric: true` does not fit this task"
        )
    return fmean(same_number(output, gold) for output in answer.outputs)


def _bare(item: EvalItem, values: Mapping[str, float | None], reason: str | None, tags: Mapping[str, str]) -> Grade:
    return Grade(
        id=item.id,
        item=item.id,
        cluster=item.cluster,
        category=item.category,
        values=values,
        missing=reason,
        judge="lm-eval",
        tags=tags,
    )


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON."""
    return value.tolist()
