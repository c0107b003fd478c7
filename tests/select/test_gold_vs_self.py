"""`gold_vs_self`: the data's answer is chosen, the model's own rejected."""

from __future__ import annotations

from dataclasses import replace
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
    assert (pair.group, pair.scores, pair.id != "a") == ("g", {"distance": 1.0}, True)
    assert (pair.origin.parents, pair.origin.model, pair.origin.iteration) == (("a",), "start", 2)
    assert [d.reason for d in dropped if isinstance(d, Dropped)] == [
        "identical to gold",
        "no gold answer",
        "no gold answer",
        "no answer",
    ]


def test_distance_counts_edits_of_words_and_equal_answers_have_none(example: Any) -> None:
    rows = [
        example("a", "?", "one two three four", fields={"parent_answer": "one 2 three"}),
        example("b", "?", "same", fields={"parent_answer": "same"}),
    ]
    pair, dropped = GoldVsSelf().pair(rows, Context())
    assert isinstance(pair, Example)
    assert isinstance(dropped, Dropped)
    assert pair.scores == {"distance": 0.5}
    assert dropped.example.scores == {"distance": 0.0}


def test_a_cut_answer_is_a_cut_rejected_one_and_a_cut_parent_a_cut_chosen_one(example: Any) -> None:
    fields = {"parent_answer": "two"}
    rows = [
        example("a", "?", "three", fields={**fields, "answer_cut": True}),
        example("b", "?", "three", fields={**fields, "parent_cut": True}),
    ]
    cuts = [{k: v for k, v in row.fields.items() if "cut" in k} for row in GoldVsSelf().pair(rows, Context())]  # type: ignore[union-attr]
    assert cuts == [{"rejected_cut": True}, {"answer_cut": True}]


def test_pairs_know_the_round_of_their_answer(example: Any) -> None:
    row = example("a", "?", "three", fields={"parent_answer": "two"}, origin=Origin(block="respond", iteration=3))
    (pair,) = GoldVsSelf().pair([row], Context(iteration=1))
    assert isinstance(pair, Example)
    assert pair.origin.iteration == 3


def test_the_report_says_how_far_the_rounds_answers_are_from_the_data(example: Any) -> None:
    fields = {"parent_answer": "one two"}
    rows = [
        example("a", "?", "one three four five", fields={**fields, "answer_cut": True}),
        example("b", "?", "one two", fields=fields),
        example("c", "?", None, fields=fields),
    ]
    context = Context()
    assert len(list(GoldVsSelf().pair(rows, context))) == 3
    assert context.tally.counts == {"own answers cut by the length cap": 1}
    assert context.tally.figures == {"equal answers": 0.5, "distance": 0.375, "gold words": 2.0, "own words": 3.0}


def test_an_equal_answer_counts_as_one_whatever_the_row_had_been_rejected_before(example: Any) -> None:
    context = Context()
    row = replace(example("a", "?", "one two", fields={"parent_answer": "one two"}), rejected="three")
    list(GoldVsSelf().pair([row], context))
    assert context.tally.figures["equal answers"] == 1.0
