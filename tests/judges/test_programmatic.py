"""The oracle and the stand-in: labelled, deterministic, and never taken for a judge of real quality."""

from __future__ import annotations

from typing import Any

import pytest
from suite_driver import drive

from harness.blocks import registry
from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Verdict
from harness.errors import UserError
from harness.evaluate.pocket import Pocket
from harness.judges._tasks import pair, random_order
from harness.judges.oracle import Oracle
from harness.judges.stand_in import StandIn


def verdict(judge: Judge, item: EvalItem, *outputs: str, turn: int = 0) -> Verdict:
    result: Verdict = drive(judge.judge(item, Answer(item=item.id, outputs=outputs), turn, Context()), str)
    return result


@pytest.mark.parametrize(("name", "word"), [("oracle", "ORACLE"), ("stand_in", "STAND-IN")])
def test_both_are_found_by_name_and_label_themselves(name: str, word: str) -> None:
    judge: Any = registry.get("judge", name)
    assert judge.stand_in
    assert word in judge.label


def test_the_oracle_knows_each_turn() -> None:
    for item in Pocket(count=8, turns=2).items("test"):
        for turn in (0, 1):
            assert verdict(Oracle(), item, *item.reference, turn=turn).score == 10
            assert verdict(Oracle(), item, "", "", turn=turn) == Verdict(score=1.0, reason="empty")


def test_the_oracle_prefers_the_better_answer() -> None:
    item = pair(Pocket(count=1).items("test")[0], "answer first")
    assert verdict(Oracle(), item, "nonsense").preference == 1
    assert verdict(Oracle(), item, item.reference[0]).preference == 1.5


def test_the_oracle_refuses_what_it_knows_nothing_about() -> None:
    with pytest.raises(UserError, match="bind another judge"):
        verdict(Oracle(), EvalItem(id="real/1", turns=("Why?",)), "Because.")


def test_the_stand_in_ranks_by_overlap_with_a_reference() -> None:
    item = EvalItem(id="x", turns=("Name three colours.",), reference=("Red, green and blue are colours.",))
    scores = [
        verdict(StandIn(), item, text).score for text in (item.reference[0], "Red is a colour.", "no no no no", "")
    ]
    assert all(score is not None and 1 <= score <= 10 for score in scores)
    assert scores == sorted(scores, reverse=True, key=lambda s: s or 0)
    assert scores[-1] == 1


def test_the_stand_in_gives_preferences_that_mirror_each_other() -> None:
    item = pair(EvalItem(id="x", turns=("Name three colours.",), reference=("no",)), "reference first")
    better = verdict(StandIn(), item, "Red, green and blue are three colours.").preference or 0
    swapped = EvalItem(id="x", turns=item.turns, reference=("Red, green and blue are three colours.",), data=item.data)
    worse = verdict(StandIn(), swapped, "no").preference or 0
    assert better > 1.5 > worse
    assert better + worse == pytest.approx(3)


def test_a_pairs_random_order_depends_on_the_instruction_alone() -> None:
    orders = [random_order(f"instruction {i}") for i in range(400)]
    assert orders == [random_order(f"instruction {i}") for i in range(400)]
    assert 150 < orders.count("answer first") < 250
