"""What the dev split tells the next iteration: categories from weakest to strongest, and the items that failed.

Only dev grades may come here; the planner never hands this module a test grade.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from harness.blocks.kinds import Feedback, Weakness
from harness.records.evaltables import read_grades


def from_grades(folders: Sequence[Path]) -> Feedback:
    """Feedback from finished grade artifacts. The first value of each grade is its suite's headline metric.

    An item failed where its headline value is below half of the best value seen in its suite.
    """
    by_category: dict[str, list[float]] = defaultdict(list)
    failed: list[str] = []
    for folder in folders:
        rows = [row for row in read_grades(folder / "grades.parquet") if _headline(row) is not None]
        best = max((_headline(row) or 0.0 for row in rows), default=0.0)
        for row in rows:
            value = _headline(row) or 0.0
            by_category[row["category"]].append(value)
            if value < best / 2:
                failed.append(row["item"])
    means = [Weakness(category=c, score=sum(v) / len(v), n=len(v)) for c, v in by_category.items()]
    return Feedback(
        categories=tuple(sorted(means, key=lambda w: (w.score, w.category))), failed=tuple(sorted(set(failed)))
    )


def _headline(row: dict[str, object]) -> float | None:
    values = row["values"]
    return next(iter(values.values()), None) if isinstance(values, dict) else None
