"""Where a synthesizer should look harder: weak categories of the last dev evaluation, as shares of its attempts."""

from __future__ import annotations

from collections.abc import Sequence

from harness.blocks.kinds import Weakness

PRIOR = 5
"""Items of the overall mean mixed into each category's score, so that a few unlucky items do not steer a round."""
FLOOR = 0.1
"""Weight of the strongest category, where the weakest has 1 + FLOOR: what is left alone is soon forgotten."""
GOLDEN, ROOT = 0.6180339887498949, 0.41421356237309515
"""Steps of two evenly spread sequences that know nothing of each other."""


def weights(categories: Sequence[Weakness]) -> dict[str, float]:
    """Category to its share of the attempts: in proportion to how far its smoothed score lies below the best one's.

    Shares sum to 1. The unit of the scores does not matter. Equal scores give equal shares.
    """
    total = sum(c.n for c in categories)
    mean = sum(c.score * c.n for c in categories) / total if total else 0.0
    smooth = {c.category: (c.score * c.n + mean * PRIOR) / (c.n + PRIOR) for c in categories}
    best, worst = max(smooth.values()), min(smooth.values())
    span = (best - worst) or 1.0
    raw = {name: (best - score) / span + FLOOR for name, score in smooth.items()}
    return {name: value / sum(raw.values()) for name, value in raw.items()}


def scheduled(shares: dict[str, float], index: int, step: float = GOLDEN) -> str:
    """The category of attempt `index`: fixed by the index alone, and any run of attempts has about the right shares.

    The golden-ratio sequence spreads points evenly over [0, 1), so a stage that is made longer keeps its first part.
    Another `step` (`ROOT`) makes a second choice that is independent of the first.
    """
    point, edge = (index + 0.5) * step % 1.0, 0.0
    for name, share in shares.items():
        edge += share
        if point < edge:
            return name
    return next(reversed(shares))
