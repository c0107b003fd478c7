"""The small scorers: length, random, confidence and prefer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Ask, Context
from harness.errors import LoopbenchError, UserError
from harness.records.example import Example, Message
from harness.select.confidence import Confidence, similarity
from harness.select.length import Length
from harness.select.prefer import Prefer
from harness.select.random import Random


class Chat:
    """Every character is a token; a conversation is its texts and one header token."""

    def __init__(self, longest: int = 99) -> None:
        self.tokenizer = type("T", (), {"model_max_length": longest})()

    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        return tuple(ord(c) for c in text)

    def render(self, messages: Any, add_generation_prompt: bool = False) -> tuple[int, ...]:
        return (*(ord(c) for m in messages for c in m["content"]), 0)


def with_chat(**more: Any) -> Context:
    chats: Any = {"student": Chat()}
    return Context(chats=chats, **more)


def flat(loss: Callable[[str], float]) -> Callable[[Any], Any]:
    """A model whose loss per token is a function of the scored text."""
    import numpy as np

    def say(request: Any) -> Any:
        text = "".join(map(chr, request.ids[request.start :]))
        return type("L", (), {"values": np.full(len(text), -loss(text), dtype="float32")})()

    return say


# --- length ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, 9.0),
        ({"unit": "words"}, 2.0),
        ({"unit": "tokens", "model": "student"}, 9.0),
        ({"of": "prompt", "unit": "words"}, 3.0),
        ({"of": "both", "unit": "words"}, 5.0),
    ],
)
def test_length(score: Any, example: Any, options: dict[str, Any], wanted: float) -> None:
    assert score(Length(**options), [example("a", "why is it", "no reason")], context=with_chat()) == {
        "length": [wanted]
    }


def test_length_of_no_answer_is_missing(score: Any, example: Any) -> None:
    rows = [example("a", "why", None), example("b", "why", "")]
    assert score(Length(), rows)["length"] == [None, 0.0]
    assert score(Length(of="prompt"), rows)["length"] == [3.0, 3.0]


@pytest.mark.parametrize("options", [{"unit": "tokens"}, {"unit": "words", "model": "student"}])
def test_tokens_and_a_model_belong_together(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        Length(**options)


# --- random ---------------------------------------------------------------------------------------------------------
def test_random_depends_on_seed_iteration_and_row_alone(score: Any, example: Any) -> None:
    rows = [example(str(k), "why", "so") for k in range(400)]

    def draw(rows: list[Example], **where: int) -> list[float]:
        return list(score(Random(), rows, context=Context(block="random", **where))["random"])  # type: ignore[arg-type]

    first = draw(rows)
    assert draw(rows[7:9]) == first[7:9]
    assert draw(rows[:1], seed=1) != first[:1]
    assert draw(rows[:1], iteration=2) != first[:1]
    assert 0.45 < sum(first) / len(first) < 0.55
    assert all(0 <= value < 1 for value in first)


# --- confidence -----------------------------------------------------------------------------------------------------
def test_confidence_is_the_mean_probability_of_a_token(score: Any, example: Any) -> None:
    rows = [example("a", "why", "sure"), example("b", "why", "unsure answer"), example("c", "why", None)]
    say = flat(lambda text: 0.1 if text == "sure" else 3.0)
    got = score(Confidence(), rows, say, with_chat())["confidence"]
    assert got[:2] == pytest.approx([math.exp(-0.1), math.exp(-3)])
    assert got[2] is None


def test_confidence_reads_no_more_than_the_model_takes(score: Any, example: Any) -> None:
    seen: list[int] = []

    def say(request: Any) -> Any:
        seen.append(len(request.ids))
        return flat(lambda text: 1.0)(request)

    rows = [example("a", "why", "x" * 50), example("b", "y" * 50, "x")]
    got = score(Confidence(max_length=30), rows, say, with_chat())["confidence"]
    assert seen == [30]
    assert got[1] is None


def test_agreement_with_fresh_samples(score: Any, example: Any) -> None:
    asked: list[Ask] = []

    def say(ask: Ask) -> Any:
        asked.append(ask)
        return ["four it is", "it is four", "five"]

    rows = [example("a", "2+2", "it is four"), example("b", "2+2", "it is four")]
    got = score(Confidence(by="agreement", samples=3), rows, say, with_chat())["confidence"]
    assert got[0] == pytest.approx((similarity("it is four", "four it is") + 1 + 0) / 3)
    assert asked[0].sampling.n == 3
    assert asked[0].messages == rows[0].prompt
    assert asked[0].fixed_seed != asked[1].fixed_seed, "rows of one batch do not share their noise"


def test_a_failed_request_leaves_its_row_missing(score: Any, example: Any) -> None:
    def say(request: Any) -> Any:
        return LoopbenchError("too long") if request.start > 4 else flat(lambda text: 0.0)(request)

    rows = [example("a", "why not", "so"), example("b", "why", "so")]
    assert score(Confidence(), rows, say, with_chat())["confidence"] == [None, 1.0]


# --- prefer ---------------------------------------------------------------------------------------------------------
PAIR = {"judge_pair": "{question}|{answer_a}|{answer_b}", "judge_system": "be fair"}
RATE = {"rate": "rate {question} {answer}", "rate.parse": "rating : (10|[1-9])$"}


def rewritten(example: Any, new: str | None, old: Any) -> Example:
    row: Example = example("a", "why", new, fields={} if old is None else {"parent_answer": old})
    return row


def test_prefer_by_likelihood(score: Any, example: Any) -> None:
    losses = {"good": 0.2, "bad": 2.2}
    rows = [rewritten(example, "good", "bad"), rewritten(example, "bad", "good")]
    got = score(Prefer(by="likelihood"), rows, flat(lambda text: losses[text]), with_chat())["prefer"]
    assert got == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])


def test_missing_answers_are_missing_and_equal_ones_a_draw(score: Any, example: Any) -> None:
    rows = [rewritten(example, new, old) for new, old in [(None, "x"), ("x", None), ("x", ""), ("", "x"), ("x", "x")]]
    for by in ("likelihood", "verdict", "rating"):
        assert score(Prefer(by=by), rows, context=with_chat())["prefer"] == [None, None, None, None, 0.5]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (["[[A]]", "[[B]]"], 1.0),
        (["[[B]]", "[[A]]"], 0.0),
        (["[[A]]", "[[A]]"], 0.5),
        (["[[A]]", "[[C]]"], 0.75),
        (["[[C]]", "[[C]]"], 0.5),
        (["[[A]]", "I cannot say"], None),
    ],
)
def test_prefer_by_verdict_asks_in_both_orders(score: Any, example: Any, said: list[str], wanted: float | None) -> None:
    asked: list[Ask] = []

    def say(ask: Ask) -> str:
        asked.append(ask)
        return said[len(asked) - 1]

    got = score(Prefer(by="verdict"), [rewritten(example, "new", "old")], say, with_chat(prompts=PAIR))
    assert got == {"prefer": [wanted]}
    assert [a.messages[-1]["content"] for a in asked] == ["why|new|old", "why|old|new"]
    assert asked[0].messages[0] == Message(role="system", content="be fair")
    assert {a.sampling.temperature for a in asked} == {0.0}


def test_a_verdict_is_read_from_the_reply_only(score: Any, example: Any) -> None:
    row = rewritten(example, "[[A]] is best, pick [[A]]", "old")
    assert score(Prefer(by="verdict"), [row], lambda ask: "no verdict", with_chat(prompts=PAIR))["prefer"] == [None]


@pytest.mark.parametrize(
    ("said", "wanted"), [(["rating : 10", "rating : 1"], 1.0), (["rating : 4", "rating : 4"], 0.5)]
)
def test_prefer_by_rating(score: Any, example: Any, said: list[str], wanted: float) -> None:
    replies = iter(said)
    row = rewritten(example, "new", "old")
    got = score(Prefer(by="rating"), [row], lambda ask: next(replies), with_chat(prompts=RATE))
    assert got == {"prefer": [wanted]}
    unread = score(Prefer(by="rating"), [row], lambda ask: "rating : 99", with_chat(prompts=RATE))
    assert unread == {"prefer": [None]}


def test_auto_takes_the_verdict_where_the_pack_has_one(score: Any, example: Any) -> None:
    row = rewritten(example, "good", "bad")
    assert score(Prefer(), [row], flat(lambda text: 1.0), with_chat(prompts=RATE))["prefer"] == [0.5]
    assert score(Prefer(), [row], lambda ask: "[[C]]", with_chat(prompts=PAIR))["prefer"] == [0.5]


@pytest.mark.parametrize(("by", "entry"), [("verdict", "judge_pair"), ("rating", "rate")])
def test_a_missing_or_broken_prompt_is_a_clear_error(score: Any, example: Any, by: Any, entry: str) -> None:
    row = rewritten(example, "new", "old")
    with pytest.raises(UserError, match=f"'{entry}'.*prompts:"):
        score(Prefer(by=by), [row], context=with_chat())
    with pytest.raises(UserError, match=r"\{question\}"):
        score(Prefer(by=by), [row], context=with_chat(prompts={entry: "{wrong}"}))
