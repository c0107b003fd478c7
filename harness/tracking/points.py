"""What stages gave, as metric points. Pure functions of manifests and grades: the same input gives the same points.

Every point carries the time at which its artifact was committed, never the time at which it is logged. So a replay
sends exactly the points that were sent before, and MLflow, whose points are keyed by name, step, time and value, keeps
one of each.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.grid import SuiteFacts
from harness.blocks.kinds import Metric
from harness.errors import CannotTell

_ILLEGAL = re.compile(r"[^A-Za-z0-9_\-. :/]+")
_NOT_CURVES = frozenset({"step", "epoch", "num_tokens", "total_flos"})
_COSTS = ("train_tokens", "loss_tokens", "generated_tokens", "prompt_tokens", "judged_tokens")


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a metric. `time` is unix milliseconds; `step` an iteration, or an optimizer step for `train/`."""

    key: str
    value: float
    time: int
    step: int


def safe(name: str) -> str:
    """A name with only the characters that MLflow allows in metrics and artifact paths."""
    return _ILLEGAL.sub("_", name).strip("_/. ") or "_"


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Safe and distinct forms of names: where two would become one, the later ones are numbered."""
    made: dict[str, str] = {}
    for name in dict.fromkeys(names):
        form = base = safe(name)
        number = 2
        while form in made.values():
            form, number = f"{base}-{number}", number + 1
        made[name] = form
    return made


def milliseconds(manifest: Mapping[str, Any]) -> int:
    """When an artifact was committed."""
    return round(float(manifest["created"]) * 1000)


def bounded(key: str, value: float | None, low: float | None, high: float | None, time: int, step: int) -> list[Point]:
    """`key` with `.low` and `.high`; a part that is unknown or not finite is left out."""
    parts = {key: value, f"{key}.low": low, f"{key}.high": high}
    return [Point(k, float(v), time, step) for k, v in parts.items() if v is not None and math.isfinite(v)]


def scores(
    suite: SuiteFacts,
    split: str,
    step: int,
    manifest: Mapping[str, Any],
    grades: Sequence[Mapping[str, Any]],
) -> list[Point]:
    """The scores of one evaluation: every metric with bounds, n and missing, overall and by category.

    Where answers are flagged (they look like an attack on the judge), `:not_flagged` is the metric without them.

    Args:
        suite: whose metrics are read.
        split: `dev` or `test`.
        step: the iteration.
        manifest: of the grades; its `report` holds aggregates that are no plain means.
        grades: rows of `harness.records.evaltables.read_grades`.
    """
    time, points = milliseconds(manifest), []
    groups = {"": list(grades)} | _by_category(grades)
    clean = [row for row in grades if not (row.get("tags") or {}).get("flag")]
    if len(clean) < len(grades):
        groups["not_flagged"] = clean
    for category, rows in groups.items():
        for metric in suite.metrics:
            name = safe(f"{split}/{suite.name}/{metric.name}" + (f":{category}" if category else ""))
            points += list(_metric(name, metric, rows, time, step))
    there = {point.key for point in points}
    for name, value in (manifest.get("report") or {}).items():
        key = safe(f"{split}/{suite.name}/{name}")
        if key not in there:
            points += bounded(key, value, None, None, time, step)
    return points


def _by_category(grades: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in grades:
        groups.setdefault(row["category"], []).append(row)
    return dict(sorted(groups.items())) if len(groups) > 1 else {}


def _metric(key: str, metric: Metric, rows: Sequence[Mapping[str, Any]], time: int, step: int) -> Iterator[Point]:
    given = [row["values"].get(metric.name) for row in rows]
    values = [math.nan if value is None or not math.isfinite(value) else value for value in given]
    missing = sum(math.isnan(value) for value in values)
    yield Point(f"{key}.n", len(values), time, step)
    yield Point(f"{key}.missing", missing, time, step)
    if missing < len(values):
        mean = math.fsum(value for value in values if not math.isnan(value)) / (len(values) - missing)
        yield from bounded(
            key, mean, *_interval(values, [row["cluster"] or row["item"] for row in rows], metric.bounds), time, step
        )


def _interval(
    values: Sequence[float], clusters: Sequence[str], bounds: tuple[float, float] | None
) -> tuple[float | None, float | None]:
    """The interval of one checkpoint's score; unknown where, without bounds, the grades do not tell."""
    from harness.stats import score

    try:
        estimate = score(values, clusters=clusters, bounds=bounds)
    except CannotTell:
        return None, None
    return estimate.low, estimate.high


def rows(step_name: str, iteration: int, manifest: Mapping[str, Any]) -> list[Point]:
    """How many rows a step gave, how many it dropped for which reason, and what its block counted and measured.

    Of a training also its speed and memory, under `cost/<step>/`.
    """
    time, prefix = milliseconds(manifest), f"data/{step_name}"
    dropped = Counter({reason: int(n) for reason, n in (manifest.get("dropped") or {}).items()})
    counts = {f"{prefix}/rows": manifest.get("rows"), f"{prefix}/dropped": dropped.total()}
    counts |= {f"{prefix}/dropped:{reason}": n for reason, n in sorted(dropped.items())}
    report = manifest.get("report") or {}
    counts |= {f"{prefix}/count:{name}": n for name, n in (report.get("counts") or {}).items()}
    counts |= {f"{prefix}/{name}": value for name, value in (report.get("figures") or {}).items()}
    counts |= {f"cost/{step_name}/{name}": value for name, value in (report.get("speed") or {}).items()}
    there = [(key, float(n)) for key, n in counts.items() if n is not None]
    return [Point(safe(key), n, time, iteration) for key, n in there if math.isfinite(n)]


def curves(step_name: str, after: int, manifest: Mapping[str, Any]) -> list[Point]:
    """The curves of a training by optimizer step; `after` counts the steps that earlier iterations took."""
    time, points = milliseconds(manifest), []
    for logged in manifest["report"]["history"]:
        step = after + int(logged["step"])
        for name, value in logged.items():
            if name not in _NOT_CURVES and isinstance(value, int | float) and math.isfinite(value):
                points.append(Point(safe(f"train/{step_name}/{name}"), float(value), time, step))
    return points


def costs(prefix: str, iteration: int, manifests: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Tokens and seconds of the stages of one iteration, summed; a stage that cells share counts in each of them."""
    total: Counter[str] = Counter()
    for manifest in manifests:
        total.update({name: n for name, n in (manifest.get("cost") or {}).items() if name in _COSTS})
    seconds = sum(float((manifest.get("timing") or {}).get("wall", 0.0)) for manifest in manifests)
    time = max(milliseconds(manifest) for manifest in manifests)
    points = [Point(f"{prefix}/{name}", float(total[name]), time, iteration) for name in _COSTS if name in total]
    return [*points, Point(f"{prefix}/seconds", seconds, time, iteration)]
