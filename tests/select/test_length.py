"""`length`: what is measured, and in what."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.select.length import Length


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
def test_length(score: Any, example: Any, options: dict[str, Any], wanted: float, with_chat: Any) -> None:
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
