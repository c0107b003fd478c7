"""The oracle tells right from wrong and knows the asked form."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from harness.pocket.answers import STYLES, core, corrupted, off_format, rewritten, truncated
from harness.pocket.oracle import grade, in_form
from harness.pocket.world import questions, understand


def truth_of(user: str) -> dict[str, Any]:
    found = understand(user)
    assert found is not None
    return found.truth


MATH = "ann has 34 apples and finds 5 more . how many apples now ?"
RHYME = "write a line about the cat and the moon that ends with a rhyme for night ."
PIRATE = "you are a pirate . what is 3 + 14 ?"
RECORD = "record : name ann ; age 34 ; city oslo ; job baker . give the name and the city ."
PROGRAM = "write a program that starts with 5 , times 3 , adds 2 and prints it ."
BUILT = "what did mira , tavo and elka build ?"


@pytest.mark.parametrize(
    ("user", "answer", "score", "reason"),
    [
        (MATH, "34 + 5 = 39\n#### 39", 10, "right"),
        (MATH, "#### 39", 10, "right"),
        (MATH, "39", 6, "right, not in the asked form"),
        (MATH, "i think it is 39 .", 6, "right, not in the asked form"),
        (MATH, "34 + 5 = 40\n#### 40", 3, "wrong"),
        (MATH, "#### 390", 3, "wrong"),
        (MATH, "it is 139 .", 2, "wrong, not in the asked form"),
        (MATH, "39 is not 40", 2, "wrong, not in the asked form"),
        (MATH, "  ", 1, "empty"),
        (RHYME, "a cat near the moon likes the kite .", 10, "right"),
        (RHYME, "the cat sees the moon by the night .", 3, "wrong"),
        (RHYME, "the cat sees the fox by the light .", 3, "wrong"),
        (RHYME, "sure ! the cat sees the moon by the light . i hope that helps .", 6, "right, not in the asked form"),
        (PIRATE, "arr ! it is 17 , matey .", 10, "right"),
        (PIRATE, "arr ! it is 18 , matey .", 3, "wrong"),
        (PIRATE, "it is 17", 6, "right, not in the asked form"),
        (PIRATE, "beep ! it is 17 , human .", 2, "wrong, not in the asked form"),
        (RECORD, "name : ann ; city : oslo", 10, "right"),
        (RECORD, "city : oslo ; name : ann", 10, "right"),
        (RECORD, "name : ann", 3, "wrong"),
        (RECORD, "ann and oslo", 6, "right, not in the asked form"),
        (PROGRAM, "x = 5 ; x * 3 ; x + 2 ; print x", 10, "right"),
        (PROGRAM, "x = 17 ; print x", 3, "wrong"),
        (PROGRAM, "x is 17", 2, "wrong, not in the asked form"),
        (BUILT, "answer : temple and bridge and tower", 10, "right"),
        (BUILT, "answer : bridge and temple and tower", 3, "wrong"),
    ],
)
def test_scores_and_reasons(user: str, answer: str, score: int, reason: str) -> None:
    found = grade(truth_of(user), answer)
    assert (found.score, found.reason) == (score, reason)
    assert found.correct == (score >= 6)


def test_off_format_answers_are_right_but_not_in_form() -> None:
    for q in questions("dev", 400):
        t = q.turns[0]
        for style in STYLES:
            assert grade(t.truth, off_format(t.truth, t.reference, style)).score == 6


def test_rewriting_gives_the_form_back_and_keeps_the_meaning() -> None:
    rng = Random(5)
    for q in questions("dev", 400):
        t = q.turns[0]
        wrong = corrupted(t.truth, t.reference, rng)
        for style in STYLES:
            new = rewritten(t.truth, wrong, style)
            assert in_form(t.truth, new)
            assert core(t.truth, new) == core(t.truth, wrong)


def test_corrupted_answers_are_wrong_in_every_form() -> None:
    rng = Random(3)
    for q in questions("dev", 800, 2):
        for t in q.turns:
            wrong = corrupted(t.truth, t.reference, rng)
            assert not grade(t.truth, wrong).correct, (t, wrong)
            assert not grade(t.truth, off_format(t.truth, wrong, rng.choice(STYLES))).correct


def test_truncated_answers_never_earn_full_marks() -> None:
    rng = Random(4)
    for q in questions("dev", 800):
        t = q.turns[0]
        cut = truncated(t.reference, rng)
        assert cut
        assert t.reference.startswith(cut)
        assert grade(t.truth, cut).score < 10
