"""`coverage`: how evenly rows cover the values of a tag, such as the leaves of a taxonomy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Columns, Context, TableScorer

if TYPE_CHECKING:
    import pandas as pd


class Coverage(TableScorer):
    """Column `coverage`: minus the logarithm of the share of rows that have this row's value of the tag, in nats.

    Its mean over the rows is the entropy of the values: log(values) where all have as many rows, 0 where one has all.
    Rows without the tag are missing (None) and do not count. The report has the figures `coverage entropy` (nats),
    `coverage evenness` (the entropy as a share of the even one), `values covered`, and a count per value.
    """

    name: ClassVar[str] = "coverage"

    by: str = identity("leaf", description="The tag whose values should be covered.", source="2403.01081 §3.2")

    def columns(self) -> tuple[str, ...]:
        """One column."""
        return ("coverage",)

    def needs(self) -> tuple[str, ...]:
        """The tag."""
        return (f"tag:{self.by}",)

    def score_table(self, table: pd.DataFrame, context: Context) -> Columns:
        """Counts the values; asks nothing."""
        values = table[f"tag:{self.by}"]
        counts = {str(name): int(count) for name, count in values.value_counts().sort_index().items()}
        for name, count in counts.items():
            context.count(f"{self.by} {name}", count)
        context.figure("coverage entropy", entropy(counts))
        context.figure("coverage evenness", evenness(counts))
        context.figure("values covered", len(counts))
        total = sum(counts.values())
        rarity = {name: -math.log(count / total) for name, count in counts.items()}
        return {"coverage": [None if value is None else rarity.get(str(value)) for value in values]}


def entropy(counts: Mapping[str, int]) -> float:
    """Entropy of a distribution, in nats: 0 where one value has all rows, log(values) where all have as many."""
    total = sum(counts.values())
    shares = (count / total for count in counts.values() if count)
    return max(0.0, -sum(share * math.log(share) for share in shares)) if total else 0.0


def evenness(counts: Mapping[str, int]) -> float:
    """The entropy as a share of the even one (0..1); 1 for a single value. Values without rows count, where named."""
    if len(counts) < 2:
        return 1.0 if sum(counts.values()) else 0.0
    return entropy(counts) / math.log(len(counts))
