"""`gold_vs_self`: the data's answer is chosen, the model's own rejected."""

from __future__ import annotations

from typing import Any

from harness.blocks.kinds import Context
from harness.records.example import Dropped, Example, Origin
from harness.select.gold_vs_self import GoldVsSelf


def test_pairs_and_drops_with_reasons(example: Any) -> None:
    origin = Origin(block="respond", model="start")
    rows = [
        example("a", "1+1?", "three", fields={"parent_answer": "two"}, group="g", scores={"x": 1.0}, origin=origin),
        example("b", "1+1?", " two\n", fields={"parent_answer": "two"}),
        example("c", "1+1?", "two"),
        example("d", "1+1?", "two", fields={"parent_answer": " "}),
        example("e", "1+1?", None, fields={"parent_answer": "two"}),
    ]
    pair, *dropped = GoldVsSelf().pair(rows, Context(iteration=2))
    assert isinstance(pair, Example)
    assert (pair.answer, pair.rejected) == ("two", "three")
    assert pair.prompt == rows[0].prompt
    assert (pair.group, pair.scores, pair.id != "a") == ("g", {}, True)
    assert (pair.origin.parents, pair.origin.model, pair.origin.iteration) == (("a",), "start", 2)
    assert [d.reason for d in dropped if isinstance(d, Dropped)] == [
        "identical to gold",
        "no gold answer",
        "no gold answer",
        "no answer",
    ]
