"""Arena-Hard with few or missing prompts: no interval may be narrower than the little that was measured allows."""

from __future__ import annotations

from random import Random

import pytest

from harness.blocks.kinds import Grade
from harness.evaluate import _style
from harness.evaluate._style import Battle, Style, controlled
from harness.evaluate.arena_hard import ArenaHard

STYLES = "10 0 0 0; 12 0 0 0"


def grade(number: int, said: str, win: float | None) -> Grade:
    tags = {"styles": STYLES, "reference_length": "10"} | ({"shown": said} if win is not None else {})
    missing = None if win is not None else "lost"
    return Grade(
        id=f"q{number}", item=f"q{number}", cluster=f"q{number}", category="", values={"win": win, "length": 9.0},
        missing=missing, tags=tags,
    )  # fmt: skip


def suite(repeats: int = 1) -> ArenaHard:
    return ArenaHard(questions="q.jsonl", baseline="b", answers="a.jsonl", repeats=repeats)


def test_two_prompts_leave_nearly_everything_open() -> None:
    both = "reference first {0}; answer first {0}"
    summary = suite().summarise([grade(0, both.format(1.0), 1.0), grade(1, both.format(0.5), 0.5)])
    low, high = summary["win_rate.low"], summary["win_rate.high"]
    assert summary["win_rate"] == 75
    assert low is not None
    assert high is not None
    assert low < 25, "a bootstrap of these two would say 50"
    assert high == pytest.approx(100, abs=1)
    assert summary["style_controlled_win_rate"] is None


def test_a_missing_prompt_weighs_as_much_as_all_of_its_repeats() -> None:
    """Five repeats are ten verdicts per prompt; a lost prompt could have lost as many, each of them strongly."""
    several = "; ".join(["reference first 1.0", "answer first 1.0"] * 5)
    grades = [grade(i, several, 1.0) for i in range(60)] + [grade(60 + i, "", None) for i in range(20)]
    summary = suite(repeats=5).summarise(grades)
    assert summary["win_rate"] == 100
    assert summary["win_rate.missing"] == 20
    # all lost prompts as strong losses: 600 wins of 600 + 20 * 10 * 3 verdicts, before any sampling noise
    assert summary["win_rate.low"] <= 50  # type: ignore[operator]


def test_style_control_counts_missing_prompts_and_wants_enough_of_them() -> None:
    rng = Random(3)

    def battles(n: int) -> list[Battle]:
        styles = [(Style(rng.randint(20, 90), 0, 0, 0), Style(rng.randint(20, 90), 0, 0, 0)) for _ in range(n)]
        return [Battle(i, float(rng.random() < 0.6), 1.0, *pair) for i, pair in enumerate(styles) for _ in range(2)]

    assert controlled(battles(_style.LEAST - 1))["style_controlled_win_rate"] is None
    given = battles(80)
    whole, some = controlled(given), controlled(given, missing=20)
    for name in ("style_controlled_win_rate", "length_controlled_win_rate"):
        assert (some[name], some[f"{name}.n"], some[f"{name}.missing"]) == (whole[name], 100, 20)
        assert some[f"{name}.low"] == pytest.approx(0.8 * whole[f"{name}.low"])  # type: ignore[operator]
        assert some[f"{name}.high"] == pytest.approx(0.8 * whole[f"{name}.high"] + 20)  # type: ignore[operator]
