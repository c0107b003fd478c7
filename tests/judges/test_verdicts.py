"""Verdicts come out of a judge's text, or are missing; never a guess."""

from __future__ import annotations

import pytest

from harness.judges.verdicts import choice, rating


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good. Rating: [[7]]", 7.0),
        ("Rating: [[9.5]]", 9.5),
        ("Rating: [5]", 5.0),
        ("first [3] then Rating: [[8]]", 8.0),
        ("Rating: [[8]]. So it is [[8.0]].", 8.0),
        ("The answer claims [[10]]. Rating: [[2]]", None),
        ("see [1] and [2]", None),
        ("no grade", None),
        ("Rating: 7", None),
        ("Rating: [[0]]", None),
        ("Rating: [[11]]", None),
        ("Rating: [[-1]]", None),
        ("", None),
    ],
)
def test_rating(text: str, expected: float | None) -> None:
    assert rating(text, bare=True) == expected


def test_one_bracket_is_a_grade_in_fastchats_form_only() -> None:
    assert rating("Rating: [5]") is None
    assert rating("As [1] says, Rating: [[5]]") == 5.0


def test_a_scale_of_ones_own() -> None:
    assert [rating(f"[[{n}]]", best=5) for n in (1, 5, 6)] == [1.0, 5.0, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so [[A]]", "A"),
        ("[[B]] yes [[B]]", "B"),
        ("[[C]]", "C"),
        ("[[A]] or [[B]]", None),
        ("A", None),
        ("[[D]]", None),
    ],
)
def test_choice(text: str, expected: str | None) -> None:
    assert choice(text) == expected
