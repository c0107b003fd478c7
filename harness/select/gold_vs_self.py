"""`gold_vs_self`: the data's answer against the model's own, as SPIN trains on them (2401.01335)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

from harness.blocks.kinds import Context, PairBuilder
from harness.records.cut import CUT_ANSWER, CUT_PARENT, CUT_REJECTED, is_cut, with_cuts
from harness.records.example import Dropped, Example, Message, Origin

DISTANCE = "distance"


class GoldVsSelf(PairBuilder):
    """Pairs: chosen is the parent's answer (`fields.parent_answer`, left there by `respond`), rejected the row's own.

    Equal answers give the constant loss ln 2 and no gradient (2401.01335 §1), so they are dropped and counted: their
    share tells how close the model has come to the data. Each pair's score `distance` says how far apart its answers
    are: edits of whole words, as a share of the longer answer (0: equal, 1: no word in common); dropped equal ones
    have 0. The report of the stage: the mean `distance` (equal answers as 0), the share of equal answers, the words of
    both sides, and how many own answers were cut. Where all answers equal the data's there is no pair, and `dpo`
    decides what that means.
    """

    name: ClassVar[str] = "gold_vs_self"
    version: ClassVar[int] = 2
    may_be_empty: ClassVar[bool] = True

    def pair(self, rows: Iterable[Example], context: Context) -> Iterator[Example | Dropped]:
        """One pair per row that has two different answers."""
        sums: Counter[str] = Counter()
        for row in rows:
            gold = row.fields.get("parent_answer")
            reason = _reason(row, gold)
            if reason is None:
                pair = self._pair(row, str(gold), context)
                _add(sums, pair, str(gold), row, equal=False)
                yield pair
            elif reason == EQUAL:
                equal = replace(row, scores={**row.scores, DISTANCE: 0.0})
                _add(sums, equal, str(gold), row, equal=True)
                yield Dropped(equal, reason)
            else:
                yield Dropped(row, reason)
        _report(sums, context)

    def _pair(self, row: Example, gold: str, context: Context) -> Example:
        own = row.answer or ""
        return replace(
            row,
            id=f"{row.id}/{self.name}",
            messages=(*row.prompt, Message(role="assistant", content=gold)),
            rejected=own,
            fields=with_cuts(row.fields, **{CUT_ANSWER: is_cut(row, CUT_PARENT), CUT_REJECTED: is_cut(row)}),
            scores={DISTANCE: distance(gold, own)},
            origin=Origin(
                block=self.name,
                parents=(row.id,),
                model=row.origin.model,
                iteration=row.origin.iteration or context.iteration,  # of the answer: pairs of several rounds are mixed
            ),
        )


EQUAL = "identical to gold"


def _add(sums: Counter[str], scored: Example, gold: str, row: Example, *, equal: bool) -> None:
    own, apart = row.answer or "", float(scored.scores[DISTANCE] or 0.0)
    values = {"answers": 1, "equal": equal, DISTANCE: apart}
    values |= {"gold words": len(gold.split()), "own words": len(own.split()), "cut": is_cut(row)}
    for name, value in values.items():
        sums[name] += value  # type: ignore[assignment]


def _report(sums: Counter[str], context: Context) -> None:
    """How close the model's answers are to the data, before any training of the round."""
    answers = sums["answers"]
    if not answers:
        return
    context.count("own answers cut by the length cap", sums["cut"])
    context.figure("equal answers", sums["equal"] / answers)
    for name in (DISTANCE, "gold words", "own words"):
        context.figure(name, sums[name] / answers)


def distance(one: str, other: str) -> float:
    """Word-level edit distance as a share of the longer text's words, from 0 to 1."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_distance(one.split(), other.split()))


def _reason(row: Example, gold: object) -> str | None:
    if row.answer is None:
        return "no answer"
    if not isinstance(gold, str) or not gold.strip():
        return "no gold answer"
    return EQUAL if gold.strip() == row.answer.strip() else None
