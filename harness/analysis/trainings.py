"""How fast the trainings of an experiment ran: tokens per second, use of the device, memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any


def trainings(manifests: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Figures over finished trainings: `trainings`, medians of the speeds and of the use of the device, most memory.

    Empty where no training reports a speed.
    """
    speeds = [found for m in manifests if (found := (m.get("report") or {}).get("speed"))]
    if not speeds:
        return {}
    middle = ("tokens_per_second", "trained_tokens_per_second", "mfu")
    figures = {name: median(found) for name in middle if (found := [s[name] for s in speeds if name in s])}
    peak = max(s.get("peak_memory_gib", 0.0) for s in speeds)
    return {"trainings": float(len(speeds)), **figures, "peak_memory_gib": peak}


def line(figures: Mapping[str, float]) -> str:
    """The figures as one line of a report."""
    count = round(figures["trainings"])
    parts = [f"{count} training{'' if count == 1 else 's'}"]
    if "tokens_per_second" in figures:
        parts.append(
            f"{figures['tokens_per_second']:,.0f} tokens/s ({figures['trained_tokens_per_second']:,.0f} with a loss)"
        )
    if "mfu" in figures:
        parts.append(f"{figures['mfu']:.0%} of the device's peak")
    return ", ".join([*parts, f"at most {figures['peak_memory_gib']:.2f} GiB"])
