"""`guard`: labels and codes out of what safety models write."""

from __future__ import annotations

from typing import Any

import pytest

from harness.select.guard import Guard


@pytest.mark.parametrize(
    ("text", "label", "kinds", "problem"),
    [
        ("safe", "safe", None, None),
        ("\n\nunsafe\nS2", "unsafe", "S2", None),
        ("unsafe\ns2, S10", "unsafe", "S2,S10", None),
        ("unsafe: O3", "unsafe", "O3", None),
        ("unsafe", "unsafe", None, None),
        ("safety first", None, None, "no value"),
        ("I cannot say whether this is safe", None, None, "no value"),
        ("", None, None, "no value"),
    ],
)
def test_what_a_guard_writes(
    score: Any, example: Any, text: str, label: str | None, kinds: str | None, problem: str | None
) -> None:
    got = score(Guard(), [example("a", "how?", "so")], lambda ask: text)
    assert [got[name][0] for name in Guard().columns()] == [label, kinds, problem, text]


def test_the_guard_is_shown_the_conversation_itself(score: Any, example: Any) -> None:
    asked: list[Any] = []
    row = example("a", "how?", "so")

    def say(ask: Any) -> Any:
        asked.append(ask)
        return RuntimeError("prompt of 9000 tokens exceeds the context of 8192")

    got = score(Guard(), [row], say)
    assert asked[0].messages == row.messages
    assert got["tag:safety.problem"] == ["refused: prompt of 9000 tokens exceeds the context of 8192"]
