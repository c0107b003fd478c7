"""`respond` and `pool`: what an answered row carries, and why an answer is left out."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Ask, Context
from harness.errors import UserError
from harness.loop.drive import RowFailed
from harness.records.example import Example, Message
from harness.synthesize.pool import Pool
from harness.synthesize.respond import Respond


def row(name: str, question: str, answer: str | None = "gold", **more: Any) -> Example:
    turns = [Message(role="system", content="be brief"), Message(role="user", content=question)]
    if answer is not None:
        turns.append(Message(role="assistant", content=answer))
    return Example(id=name, messages=tuple(turns), **more)


def test_pool_passes_rows_through_unchanged(synthesize: Any) -> None:
    rows = [row("a", "one?"), row("b", "two?", None)]
    made = synthesize(Pool(), rows)
    assert made.rows == rows
    assert not made.asked


def test_an_answered_row_keeps_its_prompt_and_carries_its_parents_answer(synthesize: Any) -> None:
    parent = row("a", "one?", tags={"category": "math"}, scores={"ifd": 0.4}, fields={"input": "x"}, group="g")
    made = synthesize(Respond(model="student"), [parent], lambda ask: "  mine \n", Context(iteration=2))
    (new,) = made.rows
    assert new.messages == (*parent.prompt, {"role": "assistant", "content": "mine"})
    assert new.group == "g"
    assert new.fields == {"input": "x", "parent_answer": "gold"}
    assert new.tags == {"category": "math"}
    assert new.scores == {}, "scores belonged to the other answer"
    assert (new.origin.parents, new.origin.model, new.origin.iteration) == (("a",), "student", 2)
    assert new.id != parent.id


def test_the_group_of_a_row_without_one_is_its_id(synthesize: Any) -> None:
    assert synthesize(Respond(), [row("a", "one?")], lambda ask: "x").rows[0].group == "a"


def test_the_model_sees_the_prompt_alone(synthesize: Any) -> None:
    made = synthesize(
        Respond(model="m", temperature=0.7, top_p=0.9, max_tokens="1k"), [row("a", "one?")], lambda ask: "x"
    )
    (ask,) = made.asked
    assert [m["content"] for m in ask.messages] == ["be brief", "one?"]
    assert (ask.model, ask.speaker) == ("m", "assistant")
    assert (ask.sampling.temperature, ask.sampling.top_p, ask.sampling.max_tokens) == (0.7, 0.9, 1000)


def test_a_row_without_an_answer_has_no_parent_answer(synthesize: Any) -> None:
    assert "parent_answer" not in synthesize(Respond(), [row("a", "one?", None)], lambda ask: "x").rows[0].fields


def test_unusable_answers_are_dropped_with_their_reason(synthesize: Any) -> None:
    said = {"cut?": ("half an ans", "length"), "empty?": " \n", "fine?": "yes", "cut and empty?": ("", "length")}
    rows = [row(question, question) for question in said]

    def say(ask: Ask) -> Any:
        return said[ask.messages[-1]["content"]]

    made = synthesize(Respond(), rows, say)
    assert [r.answer for r in made.rows] == ["yes"]
    assert made.reasons == ["cut by the length cap", "empty answer", "cut by the length cap"]
    assert made.dropped[0].example.answer == "half an ans", "the dropped answer can be read"
    kept = synthesize(Respond(keep_cut=True), rows, say)
    assert [r.answer for r in kept.rows] == ["half an ans", "yes"]
    assert kept.reasons == ["empty answer", "empty answer"]


def test_several_answers_share_a_group_and_fall_by_themselves(synthesize: Any) -> None:
    made = synthesize(Respond(n=3), [row("a", "one?")], lambda ask: ["x", ("y", "length"), "z"])
    assert [r.answer for r in made.rows] == ["x", "z"]
    assert made.reasons == ["cut by the length cap"]
    assert {r.group for r in made.rows} == {"a"}
    assert len({r.id for r in made.rows} | {d.example.id for d in made.dropped}) == 3
    assert made.asked[0].sampling.n == 3


def test_answers_of_two_iterations_have_different_ids(synthesize: Any) -> None:
    ids = [synthesize(Respond(), [row("a", "?")], lambda ask: "x", Context(iteration=i)).rows[0].id for i in (1, 2)]
    assert len(set(ids)) == 2


def test_answers_of_two_steps_have_different_ids(synthesize: Any) -> None:
    contexts = [Context(block=f"respond-{k}") for k in (1, 2)]
    assert len({synthesize(Respond(), [row("a", "?")], lambda ask: "x", c).rows[0].id for c in contexts}) == 2


def test_tags_of_the_answer_do_not_outlive_it(synthesize: Any) -> None:
    parent = row(
        "a", "?", tags={"category": "math", "leaf": "math/sharing", "defect": "wrong", "of": "b", "lang": "en"}
    )
    assert synthesize(Respond(), [parent], lambda ask: "x").rows[0].tags == {"category": "math", "leaf": "math/sharing"}
    kept = synthesize(Respond(keep_tags=("lang",)), [parent], lambda ask: "x").rows[0].tags
    assert kept == {"lang": "en"}


def test_a_row_that_is_only_an_answer_is_dropped(synthesize: Any) -> None:
    only = Example(id="a", messages=(Message(role="assistant", content="hi"),))
    assert synthesize(Respond(), [only]).reasons == ["no prompt"]


def test_rows_that_cannot_be_asked_for_share_few_reasons(synthesize: Any) -> None:
    """A length in the reason would be one more line of the report for each length."""
    said: dict[str, Any] = {
        "long?": RowFailed("prompt of 3005 tokens exceeds the context of 512"),
        "longer?": RowFailed("prompt of 4711 tokens exceeds the context of 512"),
        "bad?": RowFailed("filtered by the server"),
        "fine?": "yes",
    }
    made = synthesize(Respond(), [row(q, q) for q in said], lambda ask: said[ask.messages[-1]["content"]])
    assert [r.answer for r in made.rows] == ["yes"], "the others carry on"
    assert made.reasons == ["prompt too long for the model", "prompt too long for the model", "refused"]
    assert made.dropped[1].example.fields["problem"] == "prompt of 4711 tokens exceeds the context of 512"
    assert made.dropped[1].example.id == "longer?", "the row is the one that was not answered"


@pytest.mark.parametrize("options", [{"temperature": -1}, {"top_p": 0}, {"n": 0}, {"max_tokens": 0}, {"rows": 5}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Respond(**options)


def test_a_kept_answer_says_that_it_was_cut(synthesize: Any) -> None:
    rows = [row("a", "one?"), row("b", "two?", fields={"answer_cut": True}), row("c", "three?", None)]
    replies = {"one?": ("half an", "length"), "two?": ("whole", "stop"), "three?": ("half", "length")}
    made = synthesize(Respond(keep_cut=True), rows, lambda ask: replies[ask.messages[-1]["content"]])
    cuts = [{k: v for k, v in new.fields.items() if k.endswith("_cut")} for new in made.rows]
    assert cuts == [{"answer_cut": True}, {"parent_cut": True}, {"answer_cut": True}]


def test_a_text_may_take_the_place_of_the_chat_template(synthesize: Any) -> None:
    class Letters:
        def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
            assert not special, "the released code puts no BOS before it"
            return tuple(map(ord, text))

    context = Context(chats={"current": Letters()})  # type: ignore[dict-item]
    template = "### Instruction: {prompt}\n\n### Response: "
    made = synthesize(Respond(template=template), [row("a", "{x}?")], lambda ask: "yes", context)
    (ask,) = made.asked
    assert "".join(map(chr, ask.ids)) == "### Instruction: {x}?\n\n### Response: "
    assert [m["content"] for m in made.rows[0].messages] == ["be brief", "{x}?", "yes"]
    with pytest.raises(UserError, match="served one.*leave `template` out"):
        synthesize(Respond(template=template), [row("a", "one?")], lambda ask: "yes")
    with pytest.raises(ValidationError, match=r"\{prompt\}"):
        Respond(template="no place")
