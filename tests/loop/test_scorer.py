"""A new way of grading re-grades the answers that exist: only the grade's key changes."""

from __future__ import annotations

from typing import ClassVar

from harness.evaluate.pocket import Pocket
from harness.loop.stage import Action, Stage


class Regraded(Pocket):
    scorer: ClassVar[int] = 2


def key(suite: Pocket, action: Action) -> str:
    return Stage(action=action, label="", block=suite, split="test").key


def test_a_new_scorer_changes_the_key_of_grades_and_not_of_answers() -> None:
    old, new = Pocket(count=10), Regraded(count=10)

    assert key(old, "answer") == key(new, "answer")
    assert key(old, "grade") != key(new, "grade")
