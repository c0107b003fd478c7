"""Points about what watches over the scores: sentinels with interval, n and missing; leaked items by split."""

from __future__ import annotations

import pytest

from harness.records.sentinels import Reading
from harness.tracking.watch import leaks, sentinels


def test_sentinels_of_the_latest_reading_carry_interval_n_and_missing() -> None:
    def reading(run: str, shift: float) -> dict[str, object]:
        values = {"score": {"a": (4.0 + shift, 6.0 + shift), "b": (7.0 + shift, None), "c": (None, None)}}
        return Reading(panel="p", judge="j", run=run, taken=1.0, values=values).to_json()

    manifest = {"created": 2.0, "sentinels": [reading("old", 3.0), reading("new", 0.0)]}
    points = {point.key: point for point in sentinels("mt-bench", "test", 3, manifest)}
    name = "test/mt-bench/sentinels:score"
    assert {key: points[key].value for key in (name, f"{name}.n", f"{name}.missing")} == {
        name: 6.0,
        f"{name}.n": 3,
        f"{name}.missing": 1,
    }
    assert points[f"{name}.low"].value == pytest.approx(6 - 12.706, abs=0.01)
    assert {(point.step, point.time) for point in points.values()} == {(3, 2000)}
    assert sentinels("mt-bench", "test", 3, {"created": 2.0}) == []


def test_leaks_count_items_and_rows_by_split() -> None:
    counts = {"items": 805, "affected": 5, "rows": 13, "signs": {}, "examples": []}
    manifest = {"created": 1.0, "report": {"suites": {"alpaca-eval": {"test": counts}}}}
    assert {point.key: point.value for point in leaks(2, manifest)} == {
        "leaks/alpaca-eval/test/affected": 5,
        "leaks/alpaca-eval/test/items": 805,
        "leaks/alpaca-eval/test/rows": 13,
    }
