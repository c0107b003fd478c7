"""Numbers as the end table writes them: shares without a leading zero, intervals without commas."""

from __future__ import annotations

from harness.analysis.result import SuiteResult
from harness.stats import Estimate

_FINE = 0.02
_WHOLE = ("characters", "tokens")


def places(suite: SuiteResult) -> int:
    """Decimal places for a suite: two, three where an interval is narrow, none for counts."""
    if suite.unit in _WHOLE:
        return 0
    halves = [(arm.score.high - arm.score.low) / 2 for arm in suite.arms if arm.score is not None]
    return 3 if suite.unit == "share" and halves and max(halves) < _FINE else 2


def number(value: float, unit: str, digits: int, *, signed: bool = False) -> str:
    """One number; a share below 1 has no leading zero."""
    if unit in _WHOLE:
        return f"{value:+,.0f}" if signed else f"{value:,.0f}"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if unit == "share" and abs(value) < 1 and text.lstrip("+-")[0] == "0" else text


def pair(low: float, high: float, unit: str, digits: int, *, signed: bool = False) -> str:
    """An interval."""
    return f"[{number(low, unit, digits, signed=signed)} {number(high, unit, digits, signed=signed)}]"


def score_text(score: Estimate | None, suite: SuiteResult, digits: int) -> str:
    """A score with its interval, and how many of its grades are missing."""
    if score is None:
        return "-"
    missing = f" ({score.missing} missing)" if score.missing else ""
    return f"{number(score.value, suite.unit, digits)} {pair(score.low, score.high, suite.unit, digits)}{missing}"


def probability(p: float | None) -> str:
    """A p-value to three places."""
    if p is None:
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def things(n: int, name: str) -> str:
    """A number with its noun, `name` being the singular."""
    return f"{n:,} {name}" if n == 1 else f"{n:,} {name}s"


def count(n: int) -> str:
    """A count, from ten thousand on as k, from a million on as M."""
    for size, letter in ((1_000_000, "M"), (10_000, "k")):
        if n >= size:
            scaled = n / (1_000_000 if letter == "M" else 1_000)
            return f"{scaled:.1f}{letter}" if scaled < 10 else f"{scaled:.0f}{letter}"
    return f"{n:,}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
