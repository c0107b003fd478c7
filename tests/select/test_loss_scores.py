"""The scores that share IFD's forward passes: what each is made of, and why a row has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from harness.records.example import Example
from harness.select._losses import MERGED, NO_ANSWER, NO_ROOM, NONE_ALONE, TOO_LONG, Losses
from harness.select.ifd import Ifd
from harness.select.ira import Ira
from harness.select.losses import AllLosses
from harness.select.perplexity import Perplexity
from harness.select.rifd import Rifd


def text(ids: Sequence[int]) -> str:
    return "".join(chr(i) for i in ids if i)


def knowing(request: Any) -> Any:
    """Characters that stood in the prompt cost 0.5, others 2, upper case 3."""
    import numpy as np

    head = request.ids[: request.start]
    losses = [3.0 if chr(i).isupper() else 0.5 if i in head else 2.0 for i in request.ids[max(1, request.start) :]]
    return type("L", (), {"values": -np.array(losses, dtype="float32")})()


def test_all_are_made_of_the_same_losses(score: Any, example: Any, with_chat: Any) -> None:
    rows = [example("a", "abc", "abx"), example("b", "abc", "xyz")]
    ifd, ira, whole = (score(block, rows, knowing, with_chat()) for block in (Ifd(), Ira(), AllLosses()))
    assert ifd["ca"] == pytest.approx([1.0, 2.0])
    assert ifd["da"] == pytest.approx([2.0, 2.0])
    assert ifd["ifd"] == pytest.approx([0.5, 1.0])
    assert ira["ira"] == pytest.approx([1.0, 0.0]), "the prompt explains the first answer, the second not at all"
    assert [whole[name] for name in ("ifd", "ira", "ca", "da")] == [ifd["ifd"], ira["ira"], ifd["ca"], ifd["da"]]
    assert whole["perplexity"] == pytest.approx([math.e, math.e**2])


def test_the_formula_is_an_option_of_every_variant(score: Any, example: Any, with_chat: Any) -> None:
    rows = [example("a", "abc", "abx")]
    assert score(Ifd(formula="perplexity"), rows, knowing, with_chat())["ifd"] == pytest.approx([math.exp(-1)])
    found = score(Ifd(variant="superfiltering", formula="ratio"), rows, knowing, with_chat())
    assert found["ifd"] == pytest.approx([found["ca"][0] / found["da"][0]])


def test_without_a_header_the_direct_answer_has_nothing_before_it(score: Any, example: Any, with_chat: Any) -> None:
    asked: list[Any] = []

    def say(request: Any) -> Any:
        asked.append(request)
        return knowing(request)

    rows = [example("a", "abc", "abx")]
    score(Ifd(variant="cherry_vicuna", header=False, max_length=900), rows, say, with_chat(longest=900))
    assert text(asked[-1].ids) == "abx"
    score(Ifd(variant="cherry_vicuna", max_length=900), rows, say, with_chat(longest=900))
    assert text(asked[-1].ids) == "ASSISTANT:abx"
    score(Ifd(header=False), rows, say, with_chat())
    assert (text(asked[-1].ids), asked[-1].start) == ("abx", 0)


def test_reversed_scores_ask_for_the_instruction(score: Any, example: Any, with_chat: Any) -> None:
    asked: list[Any] = []

    def say(request: Any) -> Any:
        asked.append(request)
        return knowing(request)

    rows = [example("a", "abc", "abx")]
    found = score(Rifd(ask="? {answer} {more}"), rows, say, with_chat())
    given = asked[0]
    assert text(given.ids[: given.start]) == "? abx {more}", "braces of the answer and the wording are text"
    assert text(given.ids[given.start :]) == "abc"
    assert found["rifd"] == pytest.approx([math.exp(found["cq"][0] - found["dq"][0])])
    assert found["cq"][0] < found["dq"][0], "the answer shows what was asked"
    with pytest.raises(ValidationError):
        Rifd(ask="what was asked?")


def test_perplexity_of_each_part(score: Any, example: Any, with_chat: Any) -> None:
    rows = [example("a", "abc", "abX"), example("b", "abc", None)]
    answer = score(Perplexity(), rows, knowing, with_chat())
    assert answer["perplexity"] == [pytest.approx(math.exp(4 / 3)), None]
    assert answer["tag:perplexity.problem"] == [None, NO_ANSWER]
    alone = score(Perplexity(of="answer_alone"), rows, knowing, with_chat())["perplexity"]
    assert alone[0] == pytest.approx(math.exp(7 / 3))
    prompt = score(Perplexity(of="prompt"), rows, knowing, with_chat())
    assert prompt["perplexity"][0] == prompt["perplexity"][1] is not None, "a row without an answer has a prompt"


def test_every_row_without_a_score_says_why(score: Any, example: Any, with_chat: Any) -> None:
    from harness.errors import LoopbenchError

    rows = [example("a", "abc", None), example("b", "abc", ""), example("c", "a" * 50, "b"), example("d", "q", "abx")]
    rows.append(example("e", "s", "abx"))

    def refuse(request: Any) -> Any:
        said = {"q": "prompt of 60 tokens exceeds the context of 40", "s": "it has the token id 900"}
        why = said.get(chr(request.ids[0]))
        return LoopbenchError(why) if why else knowing(request)

    found = score(Ifd(max_length=40), rows, refuse, with_chat())
    assert found["ifd"] == [None] * 5
    problems = [NO_ANSWER, NO_ANSWER, NO_ROOM, TOO_LONG, "refused: it has the token id 900"]
    assert found["tag:ifd.problem"] == problems
    assert found["da"] == [None, None, None, pytest.approx(2.0), pytest.approx(2.0)], "what could be measured is kept"


def test_an_answer_of_one_token_has_no_loss_alone_and_says_so(score: Any, example: Any, with_chat: Any) -> None:
    found = score(Ifd(header=False), [example("a", "abc", "x")], knowing, with_chat())
    assert (found["ifd"], found["tag:ifd.problem"]) == ([None], [NONE_ALONE])
    assert found["ca"] == [pytest.approx(2.0)]


def test_an_answer_that_merges_with_its_prompt_is_not_said_to_have_no_room(
    score: Any, example: Any, with_chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released rule begins after as many tokens as the prompt has alone; two line breaks are one token here."""
    context = with_chat(longest=40)
    chat: Any = context.chats["student"]
    plain = type(chat).encode_all
    monkeypatch.setattr(
        type(chat),
        "encode_all",
        lambda self, texts, **more: plain(self, [t.replace("\n\n", "§") for t in texts], **more),
    )
    rows = [example("a", "abc", "\n"), example("b", "abc", "\nxy"), example("c", "a" * 60, "\n")]
    found = score(Ifd(variant="superfiltering"), rows, knowing, context)
    assert found["tag:ifd.problem"] == [MERGED, None, NO_ROOM]
    assert found["ifd"][0] is None


def test_losses_that_make_no_quotient() -> None:
    assert Losses({"ca": 1.0, "da": 2.0}, comparable=False).compared("ratio", "ca", "da") is None
    assert Losses({"cq": 1.0, "dq": 2.0}, comparable=False).compared("ratio", "cq", "dq") == 0.5, "a rule for answers"
    assert Losses({"ca": 1.0, "da": 0.0}).compared("ratio", "ca", "da") is None
    assert Losses({"ca": 900.0, "da": 1.0}).compared("perplexity", "ca", "da") == pytest.approx(math.exp(700))


def test_equal_requests_are_asked_once(score: Any, example: Any, with_chat: Any) -> None:
    asked: list[Any] = []

    def say(request: Any) -> Any:
        asked.append(request)
        return knowing(request)

    rows: list[Example] = [example(f"r{k}", "abc", "abx") for k in range(5)]
    found = score(AllLosses(reverse=True), rows, say, with_chat())
    assert len(asked) == 4
    assert len(set(found["ifd"])) == 1


def test_released_names_are_understood() -> None:
    names = {"alpaca": "cherry_alpaca", "Vicuna": "cherry_vicuna", "none": "superfiltering", "cherry-wiz": "cherry_wiz"}
    for given, meant in names.items():
        assert Ifd(variant=given).variant == meant
    with pytest.raises(ValidationError, match="superfiltering"):
        Ifd(variant="cherry")
