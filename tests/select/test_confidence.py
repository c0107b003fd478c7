"""`confidence`: by likelihood, and by agreement with fresh samples."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.blocks.kinds import Ask
from harness.errors import LoopbenchError
from harness.select.confidence import Confidence, similarity


def test_confidence_is_the_mean_probability_of_a_token(score: Any, example: Any, with_chat: Any, flat: Any) -> None:
    rows = [example("a", "why", "sure"), example("b", "why", "unsure answer"), example("c", "why", None)]
    say = flat(lambda text: 0.1 if text == "sure" else 3.0)
    got = score(Confidence(), rows, say, with_chat())["confidence"]
    assert got[:2] == pytest.approx([math.exp(-0.1), math.exp(-3)])
    assert got[2] is None


def test_confidence_reads_no_more_than_the_model_takes(score: Any, example: Any, with_chat: Any, flat: Any) -> None:
    seen: list[int] = []

    def say(request: Any) -> Any:
        seen.append(len(request.ids))
        return flat(lambda text: 1.0)(request)

    rows = [example("a", "why", "x" * 50), example("b", "y" * 50, "x")]
    got = score(Confidence(max_length=30), rows, say, with_chat())["confidence"]
    assert seen == [30]
    assert got[1] is None


def test_agreement_with_fresh_samples(score: Any, example: Any, with_chat: Any) -> None:
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


def test_only_agreement_depends_on_the_seed() -> None:
    assert Confidence(by="agreement").is_random()
    assert not Confidence(by="likelihood").is_random(), "one more data seed must not score the pool again"


def test_a_failed_request_leaves_its_row_missing(score: Any, example: Any, with_chat: Any, flat: Any) -> None:
    def say(request: Any) -> Any:
        return LoopbenchError("too long") if request.start > 4 else flat(lambda text: 0.0)(request)

    rows = [example("a", "why not", "so"), example("b", "why", "so")]
    assert score(Confidence(), rows, say, with_chat())["confidence"] == [None, 1.0]
