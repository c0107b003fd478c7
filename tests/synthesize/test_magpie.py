"""`magpie`: what is asked of the model, what is dropped and why, and how feedback steers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Ask, Context, Feedback, Weakness
from harness.errors import UserError
from harness.synthesize._focus import scheduled, weights
from harness.synthesize._sanitise import sanitise
from harness.synthesize.magpie import Magpie


class Chat:
    """A chat format in which every character is a token."""

    stop_ids = (7, 9)
    user_stops: tuple[str, ...] = ()

    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        return tuple(ord(c) for c in text)


CHATS: Any = {"teacher": Chat(), "other": Chat()}
WEAK = Feedback(categories=(Weakness(category="math", score=0.1, n=100), Weakness(category="coding", score=0.7, n=100)))


def context(**more: Any) -> Context:
    return Context(block="magpie", chats=CHATS, **more)


def both(instruction: Any, response: Any = "ok") -> Callable[[Ask], Any]:
    return lambda ask: instruction if ask.speaker == "user" else response


def test_a_row_is_a_self_written_turn_and_its_answer(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=2), [], both(" why?\n", " because "), context(iteration=3))
    assert [[m["content"] for m in r.messages] for r in made.rows] == [["why?", "because"]] * 2
    assert [r.id for r in made.rows] == ["magpie/3/0", "magpie/3/1"]
    assert made.rows[0].tags == {}


def test_two_steps_of_one_iteration_share_neither_ids_nor_groups(synthesize: Any) -> None:
    """`Context.block` tells two definitions of a stage apart; the name of the block does not."""
    one, other = (
        synthesize(Magpie(rows=2, system=text), [], both("why?"), Context(block=f"magpie-{text}", chats=CHATS)).rows
        for text in ("a", "b")
    )
    assert not {row.id for row in one} & {row.id for row in other}
    assert not {row.group for row in one} & {row.group for row in other}
    assert {row.origin.block for row in (*one, *other)} == {"magpie"}


def test_the_papers_sampling_is_the_default(synthesize: Any) -> None:
    question, answer = synthesize(Magpie(rows=1), [], both("why?"), context()).asked
    assert (question.speaker, question.messages) == ("user", ())
    assert (question.sampling.temperature, question.sampling.top_p) == (1.0, 1.0)
    assert question.sampling.stop == (), "no textual stop: questions may mention assistants"
    assert question.sampling.stop_ids == (7, 9)
    assert (answer.speaker, answer.sampling.temperature) == ("assistant", 0.0)
    assert [m["content"] for m in answer.messages] == ["why?"]
    assert question.draw != answer.draw


def test_another_model_can_answer(synthesize: Any) -> None:
    block = Magpie(rows=1, responder="other")
    assert [a.model for a in synthesize(block, [], both("why?"), context()).asked] == ["teacher", "other"]
    assert block.roles() == {"model": "teacher", "responder": "other"}
    assert Magpie().roles() == {"model": "teacher"}


@pytest.mark.parametrize(
    ("instruction", "response", "reason", "asked"),
    [
        ("  ", "x", "empty instruction", 1),
        (("why", "length"), "x", "cut instruction", 1),
        ("why?", "", "empty response", 2),
        ("why?", ("because", "length"), "cut response", 2),
    ],
)
def test_drops_have_reasons(synthesize: Any, instruction: Any, response: Any, reason: str, asked: int) -> None:
    made = synthesize(Magpie(rows=1), [], both(instruction, response), context())
    assert (made.rows, made.reasons) == ([], [reason])
    assert len(made.asked) == asked, "nothing is asked about a dropped instruction"


def test_cut_responses_can_be_kept_but_never_cut_instructions(synthesize: Any) -> None:
    block = Magpie(rows=1, keep_cut=True)
    assert synthesize(block, [], both("why?", ("because", "length")), context()).rows[0].answer == "because"
    assert synthesize(block, [], both(("why", "length")), context()).reasons == ["cut instruction"]


def test_bans_and_stops_reach_the_first_ask_only(synthesize: Any) -> None:
    block = Magpie(rows=1, first_bans=("#", "*a"), stop=("\n",), first_temperature=1.2)
    question, answer = synthesize(block, [], both("why?"), context()).asked
    assert question.sampling.first_bans == (ord("#"), ord("*"))
    assert (question.sampling.stop, question.sampling.first_temperature) == (("\n",), 1.2)
    assert (answer.sampling.first_bans, answer.sampling.stop) == ((), ())


def test_a_ban_that_is_no_token_is_a_clear_error(synthesize: Any) -> None:
    class Silent(Chat):
        def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
            return ()

    chats: Any = {"teacher": Silent()}
    with pytest.raises(
        UserError, match="first_bans has '\\\\u200b', which is no token at all for the tokenizer of teacher"
    ):
        synthesize(Magpie(rows=1, first_bans=("\u200b",)), [], both("why?"), Context(block="magpie", chats=chats))


def test_a_system_turn_steers_the_question_not_the_answer(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=1, system="You like maths."), [], both("1+1?"), context())
    assert [m["role"] for m in made.asked[0].messages] == ["system"]
    assert [m["role"] for m in made.asked[1].messages] == ["user"]
    assert [m["role"] for m in made.rows[0].messages] == ["user", "assistant"]


def test_sanitising_keeps_the_raw_text(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=1, sanitise=True), [], both("Question 1: why?\n\nAnswer: so"), context())
    assert made.rows[0].messages[0]["content"] == "why?"
    assert made.rows[0].fields == {"raw_instruction": "Question 1: why?\n\nAnswer: so"}
    assert synthesize(Magpie(rows=1, sanitise=True), [], both("Answer: so"), context()).reasons == ["empty instruction"]


# --- feedback -------------------------------------------------------------------------------------------------------
def test_feedback_steers_by_a_system_turn_and_tags_the_row(synthesize: Any) -> None:
    prompts = {"steer": "you help with {category} ."}
    made = synthesize(Magpie(rows=100, focus="feedback"), [], both("why?"), context(feedback=WEAK, prompts=prompts))
    systems = Counter(a.messages[0]["content"] for a in made.asked if a.speaker == "user")
    tags = Counter(r.tags["category"] for r in made.rows)
    assert systems == {f"you help with {name} .": n for name, n in tags.items()}
    assert tags["math"] > 5 * tags["coding"] > 0, "the weak category gets most attempts, the strong one some"
    assert all(m["role"] != "system" for r in made.rows for m in r.messages)


def test_without_focus_feedback_changes_nothing(synthesize: Any) -> None:
    plain = synthesize(Magpie(rows=3), [], both("why?"), context())
    assert synthesize(Magpie(rows=3), [], both("why?"), context(feedback=WEAK)).rows == plain.rows
    assert not Magpie().uses_feedback()
    assert Magpie(focus="feedback").uses_feedback()


def test_the_first_iteration_has_no_feedback_and_is_not_steered(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=2, focus="feedback"), [], both("why?"), context())
    assert [r.tags for r in made.rows] == [{}, {}]


def test_a_pack_without_steer_is_a_clear_error(synthesize: Any) -> None:
    with pytest.raises(UserError, match="'steer'"):
        synthesize(Magpie(rows=1, focus="feedback"), [], both("why?"), context(feedback=WEAK))


def test_weights_follow_weakness_whatever_the_unit() -> None:
    share = (
        Weakness(category="a", score=0.2, n=50),
        Weakness(category="b", score=0.5, n=50),
        Weakness(category="c", score=0.8, n=50),
    )
    points = tuple(Weakness(category=w.category, score=10 * w.score, n=w.n) for w in share)
    got = weights(share)
    assert got["a"] > got["b"] > got["c"] > 0
    assert sum(got.values()) == pytest.approx(1)
    assert weights(points) == pytest.approx(got)
    assert set(weights([Weakness(category=c, score=0.5, n=9) for c in "ab"]).values()) == {0.5}


def test_few_items_steer_less_than_many() -> None:
    sure = Weakness(category="sure", score=0.2, n=200)
    unlucky = Weakness(category="unlucky", score=0.2, n=2)
    got = weights((sure, unlucky, Weakness(category="rest", score=0.8, n=400)))
    assert got["unlucky"] < got["sure"]


@pytest.mark.parametrize("count", [50, 333, 1000])
def test_any_run_of_attempts_has_about_the_right_shares(count: int) -> None:
    shares = {"a": 0.6, "b": 0.3, "c": 0.1}
    got = Counter(scheduled(shares, index) for index in range(count))
    assert all(abs(got[name] - share * count) <= 3 for name, share in shares.items())


# --- clean-up -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "clean", "rules"),
    [
        ("What is 2+2?", "What is 2+2?", ()),
        ("**Task:** Sum two numbers.", "Sum two numbers.", ("label",)),
        ("1. Name a bird.", "Name a bird.", ("label",)),
        ("Question 3 - Name a bird.", "Name a bird.", ("label",)),
        ("Name a bird.\nAnswer: wren", "Name a bird.", ("answer",)),
        ("Name a bird.\n**Solution**: wren", "Name a bird.", ("answer",)),
        ("Name a bird.\nThe answer is: wren", "Name a bird.", ("answer",)),
        ("Sum 1 and 2.\n## Step 1: read", "Sum 1 and 2.", ("answer",)),
        ('"Name a bird."', "Name a bird.", ("quotes",)),
        ('"Yes" or "no"', '"Yes" or "no"', ()),
        ("Is it so?\nprint(1)", "Is it so?\nprint(1)", ()),
        ("The answer to life, what is it?", "The answer to life, what is it?", ()),
        ("Question everything. Do you?", "Question everything. Do you?", ()),
        ("3.5 is a number?", "3.5 is a number?", ()),
    ],
)
def test_sanitise(text: str, clean: str, rules: tuple[str, ...]) -> None:
    assert sanitise(text) == (clean, rules)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"rows": 0}, {"stop": ("",)}, {"focus": "everything"}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Magpie(**options)
