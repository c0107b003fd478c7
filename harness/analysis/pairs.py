"""Numbers of arms: a score, a paired difference, an exact test, and which of several arms are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations

from harness.analysis.arms import Arm, common_runs
from harness.analysis.result import Exact
from harness.errors import CannotTell
from harness.stats import ALPHA, MIN_RUNS, Difference, Estimate, difference, holm, item_bootstrap, paired_test, score

Bounds = tuple[float, float] | None


def estimate(arm: Arm, bounds: Bounds) -> tuple[Estimate | None, str]:
    """The score of an arm, or why there is none."""
    try:
        return score(arm.all(), clusters=arm.clusters, bounds=bounds), ""
    except CannotTell as error:
        return None, str(error)


def arm_difference(arm: Arm, other: Arm, bounds: Bounds) -> Difference | None:
    """The paired difference over the runs that both have; None without any.

    Raises:
        CannotTell: the grades that are there say nothing (see `harness.stats.difference`).
    """
    runs = common_runs(arm, other)
    if not runs:
        return None
    return difference(arm.only(runs), other.only(runs), clusters=arm.clusters, bounds=bounds)


def exact_test(arm: Arm, other: Arm) -> Exact | None:
    """An exact test of two checkpoints, and the item bootstrap's interval, where one run pairs and no grade is missing.

    It stands beside the t-based p-value, which belongs to the interval, and need not agree with it.
    """
    runs = common_runs(arm, other)
    if len(runs) != 1:
        return None
    mine, theirs = (one.only(runs).mean(axis=-1)[0] for one in (arm, other))
    if any(value != value for value in (*mine.tolist(), *theirs.tolist())):
        return None
    clusters = arm.clusters if len(set(arm.clusters)) < len(arm.clusters) else None
    try:
        low, high = item_bootstrap(mine - theirs, clusters=clusters)
    except CannotTell:
        return None
    return Exact(*paired_test(mine, theirs, clusters=clusters), low, high)


def separable_pairs(arms: Sequence[Arm], bounds: Bounds) -> set[frozenset[str]]:
    """The pairs that are told apart after Holm's correction over all of them."""
    known = []
    for a, b in combinations(arms, 2):
        with suppress(CannotTell):
            found = arm_difference(a, b, bounds)
            if found is not None and found.runs >= MIN_RUNS:
                known.append((a.recipe, b.recipe, found))
    adjusted = holm([found.p for _, _, found in known])
    return {frozenset((a, b)) for (a, b, _), p in zip(known, adjusted, strict=True) if p < ALPHA}
