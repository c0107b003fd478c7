"""Judge drift: false alarms are rare, real drifts are seen, and what cannot be told is not told."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from harness.stats.drift import Drift, drift


def reading(truth: list[float], rng: random.Random, noise: float, shift: float = 0.0) -> dict[str, list[float | None]]:
    return {
        str(k): [min(10.0, max(1.0, round(value + shift + rng.gauss(0, noise)))) for _ in range(3)]
        for k, value in enumerate(truth)
    }


def rate(noise: float, shift: float, rounds: int = 300) -> float:
    rng, found = random.Random(f"{noise}/{shift}"), 0
    for _ in range(rounds):
        truth = [rng.uniform(2, 9) for _ in range(16)]
        found += drift(reading(truth, rng, noise), reading(truth, rng, noise, shift)).found()
    return found / rounds


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0])
def test_a_judge_that_did_not_change_is_hardly_ever_accused(noise: float) -> None:
    assert rate(noise, 0.0) <= 0.02


def test_a_drift_of_one_point_is_seen() -> None:
    assert rate(0.5, 1.0) >= 0.99
    assert rate(1.0, 1.0) >= 0.85
    assert rate(0.0, -1.0) == 1.0


def same(value: float, count: int = 16) -> dict[str, list[float | None]]:
    return {str(k): [value] * 3 for k in range(count)}


def test_without_repeats_noise_it_is_the_paired_t_test() -> None:
    rng = random.Random(3)
    older = {str(k): [rng.uniform(1, 10)] for k in range(12)}
    newer = {name: [value + rng.gauss(0.4, 1.0)] for name, (value,) in older.items()}
    found = drift(older, newer)
    expected = stats.ttest_rel([newer[n][0] for n in older], [older[n][0] for n in older])
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.99)))


def test_one_flipped_verdict_of_a_judge_without_noise_is_no_drift_and_a_shift_of_all_is() -> None:
    flipped = same(7) | {"0": [6, 6, 6]}
    assert not drift(same(7), flipped).found()
    assert drift(same(7), same(7)).p == 1.0
    assert drift(same(7), same(6)).p == 0.0


def test_missing_verdicts_are_counted_and_too_few_say_nothing() -> None:
    newer = same(6) | {str(k): [None, None, None] for k in range(12)}
    found = drift(same(7), newer)
    assert (found.n, found.missing, found.p, found.found()) == (4, 12, None, False)
    partial = drift(same(7), same(7) | {"0": [None, 7, None]})
    assert (partial.n, partial.p) == (16, 1.0)
    assert drift({}, {}).p is None


def test_without_a_shared_sentinel_nothing_is_known_and_no_number_pretends_otherwise() -> None:
    found = drift({"a": [7.0]}, {"b": [7.0]})
    assert (found.value, found.low, found.high, found.p, found.n, found.missing) == (None, None, None, None, 0, 2)
    assert not found.found()


def test_more_tests_need_stronger_evidence() -> None:
    found = Drift(value=1, low=0.1, high=2, n=16, p=0.004, noise=1, missing=0)
    assert found.found()
    assert not found.found(tests=3)
