from __future__ import annotations

from typing import Any

from harness.analysis.trainings import line, trainings


def manifest(**speed: float) -> dict[str, Any]:
    return {"report": {"speed": speed}}


def test_the_middle_of_the_speeds_and_the_most_memory() -> None:
    made = [
        manifest(tokens_per_second=t, trained_tokens_per_second=t / 2, mfu=t / 10_000, peak_memory_gib=t / 1000)
        for t in (1000.0, 2000.0, 6000.0)
    ]
    found = trainings([*made, {"report": None}, {}])
    assert found == {
        "trainings": 3.0,
        "tokens_per_second": 2000.0,
        "trained_tokens_per_second": 1000.0,
        "mfu": 0.2,
        "peak_memory_gib": 6.0,
    }
    assert line(found) == "3 trainings, 2,000 tokens/s (1,000 with a loss), 20% of the device's peak, at most 6.00 GiB"


def test_trainings_that_report_no_speed_are_no_figure() -> None:
    assert trainings([{"report": {"steps": 3}}]) == {}
    assert line(trainings([manifest(peak_memory_gib=0.5)])) == "1 training, at most 0.50 GiB"
