"""`best_worst`: of several answers to one prompt, the best against the worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, PairBuilder
from harness.records.cut import CUT_ANSWER, CUT_REJECTED, is_cut, with_cuts
from harness.records.example import Dropped, Example, Message, Origin
from harness.records.values import Count

ALONE, NO_SCORE, SAME = "fewer answers than needed", "no score", "all answers the same"
TIE, NARROW, BETWEEN = "tie", "margin too small", "neither best nor worst"


@dataclass(frozen=True)
class _Answer:
    row: Example
    score: float
    given: Example
    """The row that came in; several candidates share one."""


class BestWorst(PairBuilder):
    """Pairs of the rows of a group (the answers of `respond` with `n`): the highest score is chosen, the lowest not.

    Answers may also come as `candidates` of one row that has no such score itself (the candidates of `rewrite` carry
    their lengths, not what `by` says). Of equal scores the first one counts, for both ends. The score
    `margin` of a pair is the difference; rewards of a good model lie within hundredths of each other, so look at it.
    A group gives no pair, and its first row is dropped with the reason, where answers are `fewer answers than needed`,
    `all answers the same` (an engine that gives k copies of one answer, say), a `tie`, or `margin too small`. A row
    without a score is dropped as `no score`, the others as `neither best nor worst`.
    """

    name: ClassVar[str] = "best_worst"
    version: ClassVar[int] = 2

    by: str = identity("reward", description="The score that ranks the answers.", source="2406.08464 §2.2: a reward")
    least: Count = identity(2, ge=2, description="Scored answers that a group must have.")
    margin: float = identity(
        0.0, ge=0, description="Least difference of a pair; 0 takes any but a tie.", source="2406.08464: none"
    )

    def pair(self, rows: Iterable[Example], context: Context) -> Iterator[Example | Dropped]:
        """One pair per group at most, as soon as the last row of the group has come: only open groups are held."""
        if iter(rows) is rows:
            rows = list(rows)
        left = Counter(row.group or row.id for row in rows)
        groups: dict[str, list[_Answer]] = {}
        pairs, margins = 0, 0.0
        for row in rows:
            name = row.group or row.id
            answers = self._answers(row)
            if not answers:
                yield Dropped(row, NO_SCORE)
            groups.setdefault(name, []).extend(answers)
            left[name] -= 1
            for made in self._paired(groups.pop(name), context) if not left[name] else ():
                if isinstance(made, Example):
                    pairs, margins = pairs + 1, margins + (made.scores["margin"] or 0.0)
                yield made
        if pairs:
            context.figure("mean margin", margins / pairs)

    def _answers(self, row: Example) -> list[_Answer]:
        score = row.scores.get(self.by)
        if row.candidates and score is None:
            head = row.prompt
            return [
                _Answer(replace(row, messages=(*head, Message(role="assistant", content=c.text))), c.score, row)
                for c in row.candidates
                if c.score is not None
            ]
        return [] if score is None or row.answer is None else [_Answer(row, score, row)]

    def _paired(self, answers: list[_Answer], context: Context) -> Iterator[Example | Dropped]:
        if not answers:
            return
        best, worst = max(answers, key=lambda a: a.score), min(answers, key=lambda a: a.score)
        if reason := self._reason(answers, best, worst):
            used: tuple[_Answer, ...] = ()
        else:
            yield self._pair(best, worst, context)
            used = (best, worst)
        others = {id(a.given): a.given for a in answers if all(a.given is not one.given for one in used)}
        yield from (Dropped(other, reason or BETWEEN) for other in others.values())

    def _reason(self, answers: list[_Answer], best: _Answer, worst: _Answer) -> str | None:
        if len(answers) < self.least:
            return ALONE
        if len({a.row.answer for a in answers}) == 1:
            return SAME
        if best.score == worst.score or best.row.answer == worst.row.answer:
            return TIE
        return NARROW if best.score - worst.score < self.margin else None

    def _pair(self, best: _Answer, worst: _Answer, context: Context) -> Example:
        row = best.row
        cuts = {CUT_ANSWER: is_cut(row), CUT_REJECTED: is_cut(worst.row)}
        return replace(
            row,
            id=f"{row.group or row.id}/{self.name}",
            rejected=worst.row.answer,
            candidates=(),
            fields=with_cuts(row.fields, **cuts),
            scores={"chosen": best.score, "rejected": worst.score, "margin": best.score - worst.score},
            origin=Origin(
                block=self.name,
                parents=tuple(dict.fromkeys((row.id, worst.row.id))),
                model=row.origin.model,
                iteration=row.origin.iteration,
            ),
        )
