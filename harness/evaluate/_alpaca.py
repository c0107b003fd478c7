"""The win rates of the alpaca-eval package, on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.judges._alpaca_eval import quiet


@dataclass(frozen=True)
class Annotation:
    """One verdict: the instruction's row in its source, the preference (1..2) and the lengths of both outputs."""

    index: int
    preference: float
    length: int
    reference_length: int


def win_rates(preferences: Sequence[float]) -> dict[str, float | None]:
    """alpaca-eval's win_rate, standard_error, discrete_win_rate (percent), n_wins, n_wins_base, n_draws and n_total.

    One verdict has no standard error: None.
    """
    with quiet():
        from alpaca_eval.metrics import get_winrate

        found = get_winrate([{"preference": preference} for preference in preferences])
    return {name: None if math.isnan(value) else float(value) for name, value in found.items()}
