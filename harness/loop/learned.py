"""What finished stages say of others of another size: a part that each pays once, and a part for each token or row.

A stage of eight rows takes seconds of start-up and hardly any work; taken per row, it would make a long one look
hundreds of times too long. So the part per token is fitted over stages of different sizes, and where all of them are
too small to tell, it is bounded by what calibration or rules say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

APART = 2.0
"""How many times larger one stage must be than another for the two to tell the fixed part from the rest."""
TELLING = 1.0
"""Seconds that the largest stage's work should take, by calibration or rules, for its time to tell a speed."""
TRUST = 2.0
"""Of smaller stages: the part per token is at most this many times that of calibration or rules."""
LONG, PER_ROW = 10.0, 1e-3
"""Where no model's speed is known: shorter stages (in seconds) say no more than this many seconds per row."""
MOST = 60
"""Stages that are compared with each other, pair by pair."""

Point = tuple[float, float]
"""Size of a stage, in tokens or rows, and its seconds."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a stage by its size."""

    fixed: float
    each: float

    def of(self, size: float) -> float:
        """Seconds of a stage of this size."""
        return self.fixed + self.each * size


def cost(points: Sequence[Point], known: float | None = None, bounded: bool = True) -> Cost:
    """The cost that finished stages show; there is at least one.

    `known`: seconds per unit of size by calibration or rules. `bounded` is false where even a short stage's time is by
    the row, as with a served model that is waited for.
    """
    each = _each(points)
    if known is not None:
        if known * max(size for size, _ in points) < TELLING:
            each = min(each, TRUST * known)
    elif bounded and max(seconds for _, seconds in points) < LONG:
        each = min(each, PER_ROW)
    return Cost(max(0.0, median(seconds - each * size for size, seconds in points)), each)


def _each(points: Sequence[Point]) -> float:
    """Seconds per unit: the median slope between stages of unlike sizes, or what each took in all where all are alike.

    The slopes' median (Theil and Sen) bears a few stages that were slowed down by others. Work that takes longer the
    less there is of it is noise: then the largest stages count as if nothing of theirs were fixed.
    """
    ordered = sorted((max(1.0, size), seconds) for size, seconds in points)
    some = ordered if len(ordered) <= MOST else ordered[:: len(ordered) // MOST + 1] + ordered[-1:]
    slopes = [(t - s) / (y - x) for (x, s), (y, t) in combinations(some, 2) if y >= APART * x]
    if slopes and (slope := median(slopes)) > 0:
        return slope
    largest = ordered[-1][0]
    return median(seconds / size for size, seconds in ordered if size * APART > largest)
