"""What watches over the scores, as metric points: the judge's verdicts on the sentinels, and leaked items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.records.sentinels import Reading
from harness.tracking.points import Point, bounded, milliseconds, safe


def sentinels(suite: str, split: str, step: int, manifest: Mapping[str, Any]) -> list[Point]:
    """The mean verdict on the sentinels in the run that made a grade, with 95 % interval over them, n and missing."""
    raw = manifest.get("sentinels") or ()
    if not raw:
        return []
    latest, time, points = Reading.from_json(raw[-1]), milliseconds(manifest), list[Point]()
    for metric, values in latest.values.items():
        key = safe(f"{split}/{suite}/sentinels:{metric}")
        given = [[v for v in repeats if v is not None] for repeats in values.values()]
        means = [fmean(one) for one in given if one]
        points += [
            Point(f"{key}.n", len(given), time, step),
            Point(f"{key}.missing", len(given) - len(means), time, step),
        ]
        if means:
            points += bounded(key, fmean(means), *_interval(means), time, step)
    return points


def leaks(iteration: int, manifest: Mapping[str, Any]) -> list[Point]:
    """How many items of each split are in the rows that were checked, of how many, and in how many rows."""
    time = milliseconds(manifest)
    return [
        Point(safe(f"leaks/{suite}/{split}/{name}"), float(counts[name]), time, iteration)
        for suite, splits in manifest["report"]["suites"].items()
        for split, counts in splits.items()
        for name in ("affected", "items", "rows")
    ]


def _interval(means: Sequence[float]) -> tuple[float | None, float | None]:
    from scipy import stats

    if len(means) < 2:
        return None, None
    error = float(stats.sem(means))
    reach = float(stats.t.ppf(0.975, len(means) - 1)) * error
    return fmean(means) - reach, fmean(means) + reach
