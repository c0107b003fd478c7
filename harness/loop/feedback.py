"""What the dev split tells the next iteration: categories from weakest to strongest, and the items that failed.

Only dev grades may come here; the planner never hands this module a test grade.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.blocks.kinds import Feedback, Weakness
from harness.records.evaltables import read_grades


def from_grades(folders: Sequence[Path]) -> Feedback:
    """Feedback from finished grade artifacts, one per suite, whose headline metrics are better when higher.

    The first value of each grade is its suite's headline. It counts as a share of the best value seen in its suite, so
    that shares of one and points of ten can stand side by side. A suite with a single category steers nothing. An item
    failed where its share is below one half.
    """
    by_category: dict[str, list[float]] = defaultdict(list)
    failed: list[str] = []
    for folder in folders:
        rows = [(row, value) for row in read_grades(folder / "grades.parquet") if (value := _headline(row)) is not None]
        best = max((value for _, value in rows), default=0.0)
        shares = [(row, value / best if best > 0 else 0.0) for row, value in rows]
        failed += [row["item"] for row, share in shares if share < 0.5]
        if len({row["category"] for row, _ in shares}) > 1:
            for row, share in shares:
                by_category[row["category"]].append(share)
    means = [Weakness(category=c, score=sum(v) / len(v), n=len(v)) for c, v in by_category.items()]
    weakest = sorted(means, key=lambda w: (w.score, w.category))
    return Feedback(categories=tuple(weakest), failed=tuple(sorted(set(failed))))


def _headline(row: Mapping[str, Any]) -> float | None:
    values: Mapping[str, float | None] = row["values"]
    return next(iter(values.values()), None)
