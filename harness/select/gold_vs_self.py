"""`gold_vs_self`: the data's answer against the model's own, as SPIN trains on them (2401.01335)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

from harness.blocks.kinds import Context, PairBuilder
from harness.records.example import Dropped, Example, Message, Origin


class GoldVsSelf(PairBuilder):
    """Pairs: chosen is the parent's answer (`fields.parent_answer`, left there by `respond`), rejected the row's own.

    Equal answers give the constant loss ln 2 and no gradient (2401.01335 §1), so they are dropped and counted: their
    share tells how close the model has come to the data.
    """

    name: ClassVar[str] = "gold_vs_self"

    def pair(self, rows: Iterable[Example], context: Context) -> Iterator[Example | Dropped]:
        """One pair per row that has two different answers."""
        for row in rows:
            gold = row.fields.get("parent_answer")
            reason = _reason(row, gold)
            yield Dropped(row, reason) if reason else self._pair(row, str(gold), context)

    def _pair(self, row: Example, gold: str, context: Context) -> Example:
        return replace(
            row,
            id=f"{row.id}/{self.name}",
            messages=(*row.prompt, Message(role="assistant", content=gold)),
            rejected=row.answer,
            scores={},
            origin=Origin(block=self.name, parents=(row.id,), model=row.origin.model, iteration=context.iteration),
        )


def _reason(row: Example, gold: object) -> str | None:
    if row.answer is None:
        return "no answer"
    if not isinstance(gold, str) or not gold.strip():
        return "no gold answer"
    return "identical to gold" if gold.strip() == row.answer.strip() else None
