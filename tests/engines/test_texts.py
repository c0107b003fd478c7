"""Likely tokens by their texts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.engines.texts import TokenTexts, by_text


def test_equal_texts_are_one_and_what_is_no_number_is_left_out() -> None:
    found = by_text(
        [("A", math.log(0.2)), ("B", math.log(0.3)), ("A", math.log(0.25)), ("C", math.nan), ("D", -math.inf)]
    )
    assert list(found) == ["A", "B"]
    assert found["A"] == pytest.approx(math.log(0.45))
    assert by_text([]) == {}


class _Pieces:
    """SentencePiece's way: the space before a word is a part of its token, and lost when one token is decoded."""

    pieces = ("\u2581A", "A", "</s>")

    def convert_ids_to_tokens(self, index: int) -> str:
        return self.pieces[index]

    def decode(self, ids: list[int], **options: Any) -> str:
        return self.pieces[ids[0]].removeprefix("\u2581")


def test_a_word_keeps_its_space_and_an_end_token_its_name() -> None:
    found = TokenTexts(_Pieces()).of({0: math.log(0.5), 1: math.log(0.25), 2: math.log(0.125)})
    assert list(found) == [" A", "A", "</s>"]
