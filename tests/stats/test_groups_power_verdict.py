"""Tie groups, what a design detects, what would settle it, and the gate's rule."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import CannotTell
from harness.stats import Difference, Noise, detectable, difference, error_rates, non_inferior, settle, tie_groups


def noise(seed: float = 0.0, n: int = 400, runs: int = 3) -> Noise:
    return Noise(persistent=2e-4, residual=1e-4, seed=seed, n=n, runs=runs)


def found(value: float, seed: float = 0.0) -> Difference:
    return Difference(
        value=value,
        low=-1,
        high=1,
        p=0.5,
        n=400,
        missing=0,
        runs=3,
        random_runs=True,
        confidence=0.95,
        noise=noise(seed),
    )


def test_groups_without_a_told_pair_are_one() -> None:
    assert tie_groups(["a", "b", "c"], []) == (("a", "b", "c"),)


def test_groups_overlap_where_ties_are_not_transitive() -> None:
    assert tie_groups(["a", "b", "c"], [("a", "c")]) == (("a", "b"), ("b", "c"))


def test_a_tie_between_the_first_and_the_last_is_shown() -> None:
    assert tie_groups(["a", "b", "c"], [("a", "b"), ("c", "b")]) == (("a", "c"), ("b",))


def test_more_groups_than_can_be_read_are_none_and_take_no_time() -> None:
    names = [f"{side}{k}" for k in range(30) for side in "ab"]
    assert tie_groups(names, [(f"a{k}", f"b{k}") for k in range(30)]) == (), "2**30 groups"


def test_more_seeds_and_more_items_detect_less() -> None:
    usual = detectable(noise(seed=2e-4))

    assert detectable(noise(seed=2e-4), runs=6) < usual
    assert detectable(noise(seed=2e-4), n=1600) < usual


def test_the_detectable_effect_is_found_four_times_in_five() -> None:
    rng, n, runs, trials = np.random.default_rng(0), 200, 6, 300
    base = Noise(persistent=0.25 / n, residual=0.5 / n / runs, seed=0.0004 / runs, n=n, runs=runs)
    effect = detectable(base)
    hits = 0
    for _ in range(trials):
        gaps = effect + 0.5 * rng.standard_normal((1, n)) + 0.02 * rng.standard_normal((runs, 1))
        hits += difference(gaps + np.sqrt(0.5) * rng.standard_normal((runs, n)), np.zeros((runs, n))).p < 0.05

    assert hits / trials == pytest.approx(0.8, abs=0.07)


def test_a_design_can_be_judged_before_anything_is_measured() -> None:
    from harness.stats import assumed

    usual = detectable(assumed(805, 3, seed_sd=0.01))

    assert 0.03 < usual < 0.15
    assert detectable(assumed(805, 6, seed_sd=0.01)) < usual < detectable(assumed(80, 3, seed_sd=0.01))
    with pytest.raises(ValueError, match="two items"):
        assumed(1, 3)


def test_seeds_settle_what_seeds_made_noisy() -> None:
    plan = settle(found(0.08, seed=4e-4), seconds_per_run=12.0)

    assert plan.more_runs is not None
    assert 1 <= plan.more_runs <= 10
    assert plan.seconds == 12.0 * plan.more_runs
    assert plan.more_items is None  # three seeds of this noise stay too few, whatever the number of items


def test_items_settle_what_items_made_noisy() -> None:
    plan = settle(found(0.01))

    assert plan.more_runs is None
    assert plan.more_items is not None
    there = 400 + plan.more_items
    assert detectable(noise(), n=there) <= 0.01 < detectable(noise(), n=round(0.95 * there))


def test_nothing_settles_a_difference_of_nothing() -> None:
    plan = settle(found(0.0))

    assert (plan.more_runs, plan.more_items) == (None, None)
    assert (plan.detectable or 0) > 0


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.00, -0.01, 0.01, "passed"),
        (0.00, -0.02, 0.02, "passed"),  # the lower bound may touch the margin
        (-0.015, -0.019, -0.011, "passed"),  # surely worse, surely within the margin
        (-0.05, -0.07, -0.03, "failed"),
        (-0.03, -0.05, -0.01, "failed"),  # surely worse, and the best guess is beyond the margin
        (-0.015, -0.04, -0.001, "cannot tell"),  # surely worse, but the best guess is within
        (-0.03, -0.07, 0.01, "cannot tell"),
        (0.05, -0.05, 0.15, "cannot tell"),
        (float("nan"), float("nan"), float("nan"), "cannot tell"),
    ],
)
def test_the_rule_of_the_gate(value: float, low: float, high: float, verdict: str) -> None:
    assert non_inferior(value, low, high, 0.02) == verdict


def test_the_gate_states_how_often_it_errs() -> None:
    sharp, blunt = error_rates(noise(), 0.06), error_rates(noise(seed=8e-4), 0.06)

    assert sharp.planted == -0.12
    assert sharp.false_alarm <= 0.03
    assert sharp.miss <= 0.01
    assert sharp.found > 0.95
    assert sharp.undecided < blunt.undecided
    assert blunt.false_alarm <= 0.04


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_where_nothing_varied_the_power_is_not_known(gap: float) -> None:
    none = np.full((1, 16), 0.1)
    flat = difference(none + gap, none, bounds=(0, 1))

    plan = settle(flat)

    assert (plan.detectable, plan.more_runs, plan.more_items) == (None, None, None)
    assert flat.high - flat.low > 0.3
    with pytest.raises(CannotTell, match="no variation was seen"):
        detectable(flat.noise)
