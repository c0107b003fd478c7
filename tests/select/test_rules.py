"""`rules`: which rows go, for which reason, and which columns are read for it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context
from harness.select.rules import Rules


def test_only_what_the_rules_look_at_is_read() -> None:
    assert Rules(least=2).needs() == ("answer",)
    assert Rules(shorter=0.5).needs() == ("answer", "field:parent_answer")
    assert Rules(preset="paper").needs() == ("answer", "field:parent_answer", "prompt", "tag:task")


def test_each_reason(select: Any) -> None:
    made = select(Rules(least=2, most=3, lacks=("sorry",)), answer=["a", "a b c d", None, "sorry but", "a b"])
    assert made == ["too short", "too long", "no answer", "banned text", None]


def test_a_row_that_was_not_rewritten_is_compared_with_nothing(select: Any) -> None:
    columns: dict[str, Any] = {"answer": ["a", "a"], "field:parent_answer": ["a b c d", None]}
    assert select(Rules(shorter=0.5), **columns) == ["much shorter than the original", None]


def test_rules_of_single_tasks_read_the_taxonomy(select: Any) -> None:
    columns: dict[str, Any] = {
        "answer": ["a b", "a b", "a b"],
        "field:parent_answer": ["a b"] * 3,
        "prompt": ["a trip", "a plan", "a trip"],
        "tag_task": ["planning", "planning", "open_qa"],
    }
    assert select(Rules(preset="paper"), **columns) == ["no plan asked for", None, None]


def test_lengths_in_tokens_of_a_model(select: Any, with_chat: Any) -> None:
    context: Context = with_chat()
    assert select(Rules(most=3, unit="tokens", model="student"), context, answer=["abcd", "abc"]) == ["too long", None]


@pytest.mark.parametrize("options", [{}, {"unit": "tokens", "most": 3}, {"model": "student", "most": 3}])
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rules(**options)


def test_the_content_of_the_taxonomy_is_part_of_the_key() -> None:
    keys = [Rules(preset="paper", taxonomy=name).identity_options()["taxonomy"] for name in ("realign", "pocket")]
    assert keys[0] != keys[1]
    assert Rules(least=2, taxonomy="pocket").identity_options()["taxonomy"] is None
