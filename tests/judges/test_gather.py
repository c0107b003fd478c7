"""Many judgements as one: full batches, and one failure spares the others."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from suite_driver import drive

from harness.blocks.kinds import Ask
from harness.errors import Transient, UserError
from harness.judges._gather import Unjudged, gather


def asks(name: str, rounds: int) -> Generator[Any, Any, str]:
    heard = []
    for number in range(rounds):
        ((completion,),) = yield [Ask(model="judge", messages=({"role": "user", "content": f"{name}{number}"},))]
        heard.append(completion.text)
    return "+".join(heard)


def test_replies_reach_the_maker_that_asked_whatever_the_number_of_rounds() -> None:
    made = drive(gather([asks("a", 2), asks("b", 0), asks("c", 1)]), lambda ask: ask.messages[0]["content"].upper())
    assert made == ["A0+A1", "", "C0"]


def test_all_asks_of_a_round_are_yielded_together() -> None:
    maker = gather([asks("a", 1), asks("b", 1), asks("c", 1)])
    assert [ask.messages[0]["content"] for ask in next(maker) if isinstance(ask, Ask)] == ["a0", "b0", "c0"]


def test_a_failed_request_is_the_reason_of_its_own_judgement_only() -> None:
    def say(ask: Ask) -> Any:
        return Transient("429") if ask.messages[0]["content"] == "b0" else "ok"

    made = drive(gather([asks("a", 1), asks("b", 1)]), say)
    assert made == ["ok", Unjudged("judge failed: Transient: 429")]


def test_a_broken_judge_is_recorded_but_a_mistake_of_the_user_stops_everything() -> None:
    def broken(error: Exception) -> Generator[Any, Any, str]:
        yield from ()
        raise error

    assert drive(gather([broken(ValueError("bug"))]), str) == [Unjudged("judge failed: ValueError: bug")]
    with pytest.raises(UserError, match="wrong judge"):
        drive(gather([broken(UserError("wrong judge"))]), str)
