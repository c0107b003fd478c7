"""`dedup`: of rows that are the same, or nearly, the earliest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.values import Count
from harness.select._bounds import Reasons
from harness.select._near import earlier_twins

if TYPE_CHECKING:
    import pandas as pd


class Dedup(Selector):
    """Drops exact and, if asked for, near duplicates. Reasons: `duplicate`, `near duplicate`.

    Exact: the same text, white space and case aside (`prompt`), or the same conversation to the character
    (`conversation`: rows that would train the same). Near: Jaccard similarity of runs of words (of characters, in a
    text that has hardly any words between spaces), candidates by MinHash and each verified exactly, so nothing below
    the threshold is ever dropped; a pair at the threshold is found with probability 0.99 or more. Answers to one prompt
    (`respond` with n > 1) are duplicates by `prompt`.
    """

    name: ClassVar[str] = "dedup"

    on: Literal["prompt", "conversation"] = identity("prompt", description="The text that is compared.")
    near: float | None = identity(
        None,
        gt=0,
        le=1,
        description="Similarity from which on rows are near duplicates, such as 0.8; by default exact only.",
    )
    shingle: Count = identity(
        3, description="Length of the word runs that near duplicates are compared by.", unit="words"
    )

    def needs(self) -> tuple[str, ...]:
        """Texts only where they are compared for nearness; prompts that must be the same are compared by key."""
        if self.on == "prompt":
            return ("prompt_key", "prompt") if self.near else ("prompt_key",)
        return ("digest", "prompt", "answer") if self.near else ("digest",)

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Exact duplicates first; near ones among what is left."""
        import numpy as np

        reasons = Reasons(len(table))
        reasons.mark(self._same(table).duplicated(), "duplicate")
        if self.near:
            left = np.flatnonzero(reasons.kept())
            twins = earlier_twins(self._texts(table.iloc[left]), self.near, self.shingle)
            near = np.zeros(len(table), dtype=bool)
            near[left] = [twin is not None for twin in twins]
            reasons.mark(near, "near duplicate")
        return reasons.result()

    def _same(self, table: pd.DataFrame) -> pd.Series[Any]:
        if self.on == "conversation":
            return table["digest"]
        return table["prompt_key"]

    def _texts(self, table: pd.DataFrame) -> list[str]:
        if self.on == "prompt":
            return list(table["prompt"])
        return [f"{prompt}\n{answer or ''}" for prompt, answer in zip(table["prompt"], table["answer"], strict=True)]
