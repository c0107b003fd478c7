"""`extend`: what a longer conversation keeps of its parent, and which rows cannot be continued."""

from __future__ import annotations

from typing import Any

from letters_chat import Chat

from harness.blocks.kinds import Ask, Context
from harness.records.example import Example, Message
from harness.synthesize.extend import Extend

CHATS: Any = {"teacher": Chat()}


def row(*texts: str, **more: Any) -> Example:
    roles = ["user", "assistant"] * 4
    turns = tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False))
    return Example(id="a", messages=turns, **more)


def extended(synthesize: Any, rows: list[Example], say: Any = None, **options: Any) -> Any:
    def answer(ask: Ask) -> str:
        return "and then?" if ask.speaker == "user" else "that"

    context = Context(block="extend-1", chats=CHATS, iteration=2, prompts={"magpie_turns": "go on"})
    return synthesize(Extend(**options), rows, say or answer, context)


def test_a_row_grows_to_the_wanted_turns(synthesize: Any) -> None:
    parent = row("why?", "so", tags={"category": "math", "quality": "good"}, scores={"reward": 1.0}, group="g")
    made = extended(synthesize, [parent], turns=3)
    (longer,) = made.rows
    assert [m["content"] for m in longer.messages] == ["why?", "so", "and then?", "that", "and then?", "that"]
    assert (longer.group, longer.origin.parents, longer.tags, longer.scores) == ("g", ("a",), {"category": "math"}, {})
    assert longer.id != parent.id
    question, answer = made.asked[:2]
    assert question.messages[0] == Message(role="system", content="go on")
    assert all(m["role"] != "system" for m in answer.messages), "answers are given without the system turn"


def test_fields_of_the_shorter_conversation_do_not_stay(synthesize: Any) -> None:
    """An instruction column would otherwise be scored with the answer to another question."""
    fields = {"instruction": "why?", "quality.text": "good", "source": "mine", "made": [{"tokens": 3}]}
    (longer,) = extended(synthesize, [row("why?", "so", fields=fields)], keep_fields=("source",)).rows
    assert longer.fields.keys() == {"source", "made"}
    assert len(longer.fields["made"]) == 2


def test_a_system_turn_of_the_conversation_stays_and_is_shown_to_both_sides(synthesize: Any) -> None:
    system = Message(role="system", content="be brief")
    plain = row("why?", "so")
    made = extended(synthesize, [Example(id="a", messages=(system, *plain.messages))])
    question, answer = made.asked
    assert question.messages[0]["content"] == "be brief\ngo on"
    assert [m["content"] for m in answer.messages] == ["be brief", "why?", "so", "and then?"]
    assert made.rows[0].messages[0] == system


def test_a_row_that_is_long_enough_passes(synthesize: Any) -> None:
    long = row("why?", "so", "and?", "that")
    kept = row("why?", "so", "and?", "tha", fields={"answer_cut": True})  # nothing has to follow it
    for one in (long, kept):
        made = extended(synthesize, [one])
        assert made.rows == [one]
        assert not made.asked


def test_rows_that_cannot_go_on_say_why(synthesize: Any) -> None:
    assert extended(synthesize, [row("why?")]).reasons == ["no answer to go on from"]
    cut = row("why?", "so", fields={"answer_cut": True})
    assert extended(synthesize, [cut]).reasons == ["cut answer: nothing can follow it"]
    empty = extended(synthesize, [row("why?", "so")], lambda ask: "" if ask.speaker == "assistant" else "and?")
    assert empty.reasons == ["empty response in turn 2"]
