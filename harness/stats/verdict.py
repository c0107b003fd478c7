"""The gate's rule, and how often it errs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.stats.estimate import ALPHA, Noise
from harness.stats.simulate import TRIALS, experiments
from harness.stats.spread import half_width

Verdict = Literal["passed", "failed", "cannot tell"]


def non_inferior(value: float, low: float, high: float, margin: float) -> Verdict:
    """Passed, failed or neither, from the interval of candidate - baseline where more is better.

    Passed: the loss is surely within the margin. Failed: it is surely beyond, or there surely is one and the best guess
    is beyond the margin. Everything else, NaN among it, cannot be told.
    """
    if low >= -margin:
        return "passed"
    if high < -margin or (high < 0 and value < -margin):
        return "failed"
    return "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often the gate errs with this noise, these items and these runs, from simulation.

    `false_alarm`: it fails though nothing changed (A/A). `undecided`: it cannot tell though nothing changed. `miss`: it
    passes a regression of `planted`, twice the margin. `found`: it fails that regression.
    """

    false_alarm: float
    undecided: float
    miss: float
    found: float
    planted: float
    trials: int = TRIALS


def error_rates(noise: Noise, margin: float, *, trials: int = TRIALS, seed: int = 0) -> Rates:
    """Error rates of the gate for the noise of a measured difference.

    Simulated in normal theory (see `harness.stats.simulate`), which leaves out the small-sample term of binary metrics.
    """
    import numpy as np

    planted = -2 * margin if margin > 0 else -2 * noise.total**0.5
    same, worse = _verdicts(noise, 0.0, margin, trials, seed), _verdicts(noise, planted, margin, trials, seed + 1)
    return Rates(
        false_alarm=float(np.mean([v == "failed" for v in same])),
        undecided=float(np.mean([v == "cannot tell" for v in same])),
        miss=float(np.mean([v == "passed" for v in worse])),
        found=float(np.mean([v == "failed" for v in worse])),
        planted=planted,
        trials=trials,
    )


def _verdicts(noise: Noise, truth: float, margin: float, trials: int, seed: int) -> list[Verdict]:
    of = experiments(noise, trials=trials, seed=seed)
    means, halves = (of.mean + truth).tolist(), half_width(of, ALPHA).tolist()
    return [non_inferior(m, m - h, m + h, margin) for m, h in zip(means, halves, strict=True)]
