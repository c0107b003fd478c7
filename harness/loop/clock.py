"""The times of stages that were done together, divided among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.clock import Timer

__all__ = ["ONCE", "Timer", "shared"]

ONCE = ("import", "open")
"""Times that the first of several stages caused for all of them."""


def shared(report: Mapping[str, float], weights: Sequence[float]) -> list[dict[str, float]]:
    """A report of several stages' common work, divided by their (positive) weights; the parts add up to the whole."""
    once = {name: report[name] for name in ONCE if name in report}
    divided = {name: seconds for name, seconds in report.items() if name not in once}
    divided["wall"] -= sum(once.values())
    parts = [
        {name: round(seconds * weight / sum(weights), 4) for name, seconds in divided.items()} for weight in weights
    ]
    parts[0]["wall"] = round(parts[0]["wall"] + sum(once.values()), 4)
    parts[0] |= once
    return parts
