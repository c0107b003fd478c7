"""What a measured number carries: its interval, its sample and where its noise comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

CONFIDENCE = 0.95
ALPHA = 0.05
MIN_RUNS = 3
"""Training seeds from which on their noise is a random effect. Below, a result speaks of its checkpoints only."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Variance of a mean over runs and items, by source (the metric's unit, squared).

    `persistent`: items that are easy or hard in every run. `residual`: what differs between runs item by item; judge
    noise is inside it. `seed`: runs that are better or worse as a whole. `judge`: from repeats; None where there
    are none, so that it was not measured (0 is for judges that cannot vary).
    """

    persistent: float
    residual: float
    seed: float
    judge: float | None = None
    n: int
    runs: int

    @property
    def total(self) -> float:
        """The variance of the mean."""
        return self.persistent + self.residual + self.seed

    def shares(self) -> dict[str, float | None]:
        """Shares of the variance: `seeds`, `items`, `judge` (None: not measured, so within the other two)."""
        whole = self.total
        if whole <= 0:
            return {"seeds": 0.0, "items": 0.0, "judge": None if self.judge is None else 0.0}
        judge = min(self.judge or 0.0, whole - self.seed)
        return {
            "seeds": self.seed / whole,
            "items": (whole - self.seed - judge) / whole,
            "judge": None if self.judge is None else judge / whole,
        }

    def dominant(self) -> str | None:
        """The largest source, or None where nothing varies."""
        shares = self.shares()
        return max(shares, key=lambda name: shares[name] or 0.0) if self.total > 0 else None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score with its uncertainty.

    `value` is the mean of what was graded; where grades are missing, the interval reaches from the low end with all of
    them at the worst value to the high end with all at the best. `n` counts items, `missing` counts grades out of
    `n * runs`. `random_runs` is False where the interval holds for these checkpoints only (fewer than three runs).
    """

    value: float
    low: float
    high: float
    n: int
    missing: int = 0
    runs: int = 1
    random_runs: bool = False
    confidence: float = CONFIDENCE
    noise: Noise | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Candidate minus baseline on the same items and runs, with a two-sided p-value that agrees with the interval."""

    value: float
    low: float
    high: float
    p: float
    n: int
    missing: int
    runs: int
    random_runs: bool
    confidence: float
    noise: Noise

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values, with the noise shares."""
        return asdict(self) | {"noise_shares": self.noise.shares()}
