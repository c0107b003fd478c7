"""`raft`, `resample` and `coverage`: what LAB's data mixing is made of."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context
from harness.records.example import Example, Message
from harness.select.coverage import Coverage
from harness.synthesize.raft import Raft
from harness.synthesize.resample import Resample


def row(number: int, document: str | None, chunk: str, leaf: str = "l", **tags: str) -> Example:
    turns = (Message(role="user", content=f"q{number}"), Message(role="assistant", content=f"a{number}"))
    fields = {} if document is None else {"document": document, "chunk": chunk}
    return Example(id=f"r{number}", messages=turns, fields=fields, tags={"leaf": leaf, **tags})


def documents_of(example: Example) -> list[str]:
    return [line for line in example.messages[0]["content"].splitlines() if line.startswith("doc")]


def context(seed: int = 0) -> Context:
    return Context(block="raft-1", seed=seed)


# --- raft -------------------------------------------------------------------------------------------------------------
def test_the_source_is_there_in_the_wanted_share(synthesize: Callable[..., Any]) -> None:
    rows = [row(n, f"doc {n % 20}", f"c{n % 20}") for n in range(2000)]
    made = synthesize(Raft(), rows, context=context()).rows
    with_source = [f"doc {int(r.id.split('/')[0][1:]) % 20}" in documents_of(r) for r in made]
    assert abs(sum(with_source) / len(made) - 0.4) < 0.04
    assert {len(documents_of(r)) for r in made} == {4}
    assert all(len(set(documents_of(r))) == 4 for r in made)
    assert {r.loss_on for r in made} == {"assistant"}
    again = synthesize(Raft(), rows[:50], context=context()).rows
    pools = {r.id: len(documents_of(r)) for r in again}
    assert set(pools.values()) == {4}


def test_draws_depend_on_seed_and_row_not_on_the_order(synthesize: Callable[..., Any]) -> None:
    rows = [row(n, f"doc {n}", f"c{n}") for n in range(30)]
    one = {r.id: r.messages for r in synthesize(Raft(), rows, context=context()).rows}
    other = {r.id: r.messages for r in synthesize(Raft(), rows[::-1], context=context()).rows}
    assert one == other
    assert one != {r.id: r.messages for r in synthesize(Raft(), rows, context=context(1)).rows}


def test_other_versions_of_the_own_chunk_are_no_distractors(synthesize: Callable[..., Any]) -> None:
    twins = [row(n, f"doc {version} of {n}", f"c{n}") for n in range(6) for version in ("base", "summary")]
    rows = [Example(**{**vars(r), "id": f"x{i}"}) for i, r in enumerate(twins)]
    for made, given in zip(synthesize(Raft(source_share=0), rows, context=context()).rows, rows, strict=True):
        number = str(given.fields["document"]).split()[-1]
        assert len(documents_of(made)) == 4
        assert not any(text.endswith(f"of {number}") for text in documents_of(made))


def test_a_large_leaf_is_drawn_from_without_looking_at_all_of_it_for_each_row() -> None:
    rows = [row(n, f"doc {n}", f"c{n // 2}") for n in range(10_000)]
    before = time.process_time()
    drawn = [item.data["documents"] for item in Raft().items(rows, context())]
    assert time.process_time() - before < 10, "a comparison of all with all takes minutes"
    assert {len(documents) for documents in drawn} == {4}


def test_auxiliary_rows_of_both_mixes_differ_only_in_what_is_trained(
    synthesize: Callable[..., Any],
) -> None:
    """So a `dedup` by prompt keeps one of them, one by conversation would keep both."""
    given = [row(0, None, "c", part="auxiliary")]
    first, second = (
        synthesize(raft, given, context=context()).rows[0]
        for raft in (Raft(), Raft(source_share=1, documents=1, loss_on="all"))
    )
    assert first.prompt == second.prompt
    assert first.digest != second.digest


def test_distractors_come_from_the_same_leaf(synthesize: Callable[..., Any]) -> None:
    rows = [row(n, f"doc {leaf} {n}", f"c{n}", leaf) for n, leaf in enumerate("aaaaaabbbbbb")]
    for made in synthesize(Raft(), rows, context=context()).rows:
        assert {text.split()[1] for text in documents_of(made)} == {made.tags["leaf"]}


def test_few_documents_are_all_used_and_one_stands_alone(synthesize: Callable[..., Any]) -> None:
    alone = synthesize(Raft(source_share=0), [row(0, "doc x", "c")], context=context()).rows
    assert documents_of(alone[0]) == ["doc x"]
    three = [row(n, f"doc {n}", f"c{n}") for n in range(3)]
    assert {len(documents_of(r)) for r in synthesize(Raft(source_share=0), three, context=context()).rows} == {2}
    assert {len(documents_of(r)) for r in synthesize(Raft(source_share=1), three, context=context()).rows} == {3}


def test_the_first_phase_is_document_question_answer_all_trained(synthesize: Callable[..., Any]) -> None:
    block = Raft(source_share=1, documents=1, loss_on="all")
    (made,) = synthesize(block, [row(7, "doc x", "c")], context=context()).rows
    assert made.messages[0]["content"] == "doc x\n\nq7"
    assert (made.loss_on, made.answer) == ("all", "a7")


def test_rows_without_a_document_have_a_reason_and_auxiliary_ones_pass(synthesize: Callable[..., Any]) -> None:
    made = synthesize(Raft(loss_on="all"), [row(0, None, ""), row(1, None, "", part="auxiliary")], context=context())
    assert made.reasons == ["no document"]
    assert [(r.messages[0]["content"], r.loss_on) for r in made.rows] == [("q1", "all")]
    with pytest.raises(ValidationError, match="one document, right or wrong"):
        Raft(documents=1)


# --- resample ---------------------------------------------------------------------------------------------------------
def drawn(synthesize: Callable[..., Any], count: int, seed: int = 0, **options: Any) -> Any:
    rows = [row(n, None, "", leaf="ab"[n % 2]) for n in range(count)]
    return synthesize(Resample(**options), rows, context=Context(block="resample-1", seed=seed))


def test_30_of_150_are_30_different_ones_by_default(synthesize: Callable[..., Any]) -> None:
    made = drawn(synthesize, 150, rows=30)
    assert len({r.id for r in made.rows}) == 30
    assert made.reasons == ["not drawn"] * 120
    assert {r.id for r in drawn(synthesize, 150, 1, rows=30).rows} != {r.id for r in made.rows}


def test_the_released_draw_repeats_rows(synthesize: Callable[..., Any]) -> None:
    made = drawn(synthesize, 30, rows=30, replacement=True)
    assert len(made.rows) == 30
    assert len({r.messages[0]["content"] for r in made.rows}) < 26
    assert len({r.id for r in made.rows}) == 30


def test_more_rows_than_there_are_repeat_evenly(synthesize: Callable[..., Any]) -> None:
    made = drawn(synthesize, 10, times=2.5)
    assert Counter(Counter(r.messages[0]["content"] for r in made.rows).values()) == {2: 5, 3: 5}
    assert len({r.id for r in made.rows}) == 25


def test_each_leaf_by_itself_and_one_system_turn(synthesize: Callable[..., Any]) -> None:
    made = drawn(synthesize, 20, rows=3, per="leaf", system="Be kind.")
    assert Counter(r.tags["leaf"] for r in made.rows) == {"a": 3, "b": 3}
    assert {r.messages[0]["content"] for r in made.rows} == {"Be kind."}
    with pytest.raises(ValidationError, match="set one"):
        Resample(rows=3, times=2)


# --- coverage ---------------------------------------------------------------------------------------------------------
def test_the_mean_of_coverage_is_the_entropy_over_leaves() -> None:
    table = pd.DataFrame({"id": list("abcdef"), "tag:leaf": ["x", "x", "y", "y", None, "x"]})
    context = Context()
    values = Coverage().score_table(table, context)["coverage"]
    known = [value for value in values if value is not None]
    expected = -(3 / 5 * math.log(3 / 5) + 2 / 5 * math.log(2 / 5))
    assert sum(known) / len(known) == pytest.approx(expected)
    assert values[4] is None
    assert context.tally.figures["coverage entropy"] == pytest.approx(expected)
    assert context.tally.figures["coverage evenness"] == pytest.approx(expected / math.log(2))
    assert context.tally.counts == {"leaf x": 3, "leaf y": 2}
