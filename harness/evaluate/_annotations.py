"""Graded pairs in the form of alpaca-eval's `annotations.json`, which that package and `replay` read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.blocks.kinds import Answer, EvalItem, Grade


def annotation_rows(
    items: Sequence[EvalItem],
    answers: Sequence[Answer],
    grades: Sequence[Grade],
    *,
    model: str,
    reference: str,
    annotator: str | None = None,
) -> list[dict[str, Any]]:
    """One row per answered item: instruction, both outputs, who wrote them, who judged, and the preference.

    Args:
        items: of a pairwise suite.
        answers: aligned with the items; an item without an answer gives no row.
        grades: of those items, in any order.
        model: name of the model that answered (`generator_2`).
        reference: name of the reference (`generator_1`).
        annotator: name of the judge; None takes it from the grades.

    Returns:
        Rows with `preference` from 1 (reference) to 2 (answer), None where the verdict is missing; the judge's text and
        its tokens stand in `raw_completion`.
    """
    by_item = {grade.item: grade for grade in grades}
    rows = []
    for item, answer in zip(items, answers, strict=True):
        grade = by_item.get(item.id)
        if grade is None or not answer.outputs:
            continue
        win = grade.values.get("win")
        rows.append(
            {
                "instruction": item.turns[0],
                "output_1": item.reference[0],
                "generator_1": reference,
                "dataset": item.category,
                "output_2": answer.outputs[0],
                "generator_2": model,
                "annotator": annotator or grade.judge,
                "preference": None if win is None else win + 1,
                "raw_completion": {"text": grade.judge_text, "total_tokens": grade.judged_tokens},
            }
        )
    return rows
