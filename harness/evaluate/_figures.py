"""Aggregates of pairwise suites with what every number must carry: `x`, `x.low`, `x.high`, `x.n`, `x.missing`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.evaluate._grading import interval

Figures = dict[str, float | None]


def share(name: str, values: Sequence[float | None], clusters: Sequence[str] = (), scale: float = 1.0) -> Figures:
    """The mean of shares (0..1) with its 95 % interval; None is a missing grade, which could be 0 or 1.

    Args:
        name: of the figure.
        values: one per verdict.
        clusters: the item of each verdict, where items have several.
        scale: 100 gives percent.
    """
    if not values:
        return absent(name)
    return interval(name, values, clusters or [str(place) for place in range(len(values))], (0.0, 1.0), scale)


def figure(name: str, value: float, low: float, high: float, n: int, missing: int = 0) -> Figures:
    """One figure with its interval. `n` counts the missing ones too."""
    return {
        name: value,
        f"{name}.low": low,
        f"{name}.high": high,
        f"{name}.n": float(n),
        f"{name}.missing": float(missing),
    }


def absent(name: str, n: int = 0) -> Figures:
    """A figure that cannot be given."""
    return {name: None, f"{name}.low": None, f"{name}.high": None, f"{name}.n": float(n), f"{name}.missing": float(n)}


def percent(name: str, value: float, error: float, n: int, missing: int = 0) -> Figures:
    """A percentage with the interval that its standard error gives, taken on the logit and so never outside 0..100.

    The missing among the `n` could be 0 or 100 each: the lower end counts them as 0, the upper end as 100.
    """
    from scipy.special import expit, logit, ndtri

    place = min(max(value / 100, 1e-9), 1 - 1e-9)
    half = float(-ndtri(0.025)) * error / 100 / (place * (1 - place))
    low, high = (100 * float(expit(logit(place) + sign * half)) for sign in (-1, 1))
    there = 1 - missing / n if n else 1.0
    return figure(name, value, low * there, high * there + 100 * (1 - there), n, missing)
