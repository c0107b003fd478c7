"""`random`: numbers that depend on seed, iteration and row alone."""

from __future__ import annotations

from typing import Any

from harness.blocks.kinds import Context
from harness.records.example import Example
from harness.select.random import Random


def test_random_depends_on_seed_iteration_and_row_alone(score: Any, example: Any) -> None:
    rows = [example(str(k), "why", "so") for k in range(400)]

    def draw(rows: list[Example], **where: int) -> list[float]:
        return list(score(Random(), rows, context=Context(block="random", **where))["random"])  # type: ignore[arg-type]

    first = draw(rows)
    assert draw(rows[7:9]) == first[7:9]
    assert draw(rows[:1], seed=1) != first[:1]
    assert draw(rows[:1], iteration=2) != first[:1]
    assert 0.45 < sum(first) / len(first) < 0.55
    assert all(0 <= value < 1 for value in first)
