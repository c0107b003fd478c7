"""Pools plant what they say they plant."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness.pocket.oracle import grade
from harness.pocket.pool import ANSWER_DEFECTS, DEFECTS, rows
from harness.pocket.world import split_of, understand

EVEN = dict.fromkeys(DEFECTS, 0.08)


@pytest.fixture(scope="module")
def pool() -> list[dict[str, Any]]:
    return list(rows(1500, 1, EVEN))


def test_a_pool_is_deterministic_and_seeds_differ() -> None:
    assert list(rows(50, 1, EVEN)) == list(rows(50, 1, EVEN))
    assert list(rows(50, 1)) != list(rows(50, 2))


def test_ids_are_unique(pool: list[dict[str, Any]]) -> None:
    assert len({row["id"] for row in pool}) == len(pool)


def test_shares_are_met(pool: list[dict[str, Any]]) -> None:
    counts = Counter(row["tags"]["defect"] for row in pool)
    for defect in DEFECTS:
        assert counts[defect] == pytest.approx(0.08 * len(pool), rel=0.35)


def test_clean_rows_are_right_and_from_train(pool: list[dict[str, Any]]) -> None:
    for row in pool:
        if row["tags"]["defect"] is None:
            user, answer = (m["content"] for m in row["messages"])
            turn = understand(user)
            assert turn is not None
            assert grade(turn.truth, answer).score == 10
            assert split_of(user) == "train"


@pytest.mark.parametrize("defect", ANSWER_DEFECTS)
def test_spoiled_answers_lose_marks(pool: list[dict[str, Any]], defect: str) -> None:
    for row in pool:
        if row["tags"]["defect"] == defect:
            turn = understand(row["messages"][0]["content"])
            assert turn is not None
            found = grade(turn.truth, row["messages"][1]["content"])
            assert found.correct == (defect == "off_format")
            assert found.score < 10


def test_duplicates_refer_to_an_earlier_row(pool: list[dict[str, Any]]) -> None:
    place = {row["id"]: i for i, row in enumerate(pool)}
    for i, row in enumerate(pool):
        defect, of = row["tags"]["defect"], row["tags"]["of"]
        if defect in ("duplicate", "near_duplicate"):
            original = pool[place[of]]
            assert place[of] < i
            assert (row["messages"] == original["messages"]) == (defect == "duplicate")
            assert row["messages"][1:] == original["messages"][1:]
        else:
            assert of is None


def test_leaked_rows_are_test_questions_with_right_answers(pool: list[dict[str, Any]]) -> None:
    leaked = [row for row in pool if row["tags"]["defect"] == "leaked"]
    assert leaked
    for row in leaked:
        user, answer = (m["content"] for m in row["messages"])
        turn = understand(user)
        assert split_of(user) == "test"
        assert turn is not None
        assert grade(turn.truth, answer).score == 10


def test_defects_do_not_change_the_clean_questions() -> None:
    clean, dirty = list(rows(200, 3)), list(rows(200, 3, {"wrong": 0.3, "truncated": 0.3}))
    assert [r["messages"][0] for r in clean] == [r["messages"][0] for r in dirty]


def test_two_turns_keep_the_first_answer() -> None:
    for row in rows(100, 4, {"wrong": 1.0}, turns=2):
        first = understand(row["messages"][0]["content"])
        assert first is not None
        assert len(row["messages"]) == 4
        assert grade(first.truth, row["messages"][1]["content"]).score == 10


def test_bad_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown defect 'typo'; known: wrong"):
        next(rows(1, 0, {"typo": 0.1}))
    with pytest.raises(ValueError, match="at most 1"):
        next(rows(1, 0, {"wrong": 0.7, "swapped": 0.7}))
