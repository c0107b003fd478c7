"""The pocket world's own judge: it knows the truth of every question."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from typing import ClassVar

from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Reply, Request, Verdict
from harness.errors import UserError
from harness.judges._tasks import opponent, order_of, truth


class Oracle(Judge):
    """Scores an answer 1 to 10 against the known truth: 10 is right and in the asked form.

    Only for the pocket world's questions. It is a program, no reader, so it can never satisfy a gate on a real suite.
    """

    name: ClassVar[str] = "oracle"
    label: ClassVar[str] = "ORACLE judge (programmatic)"
    stand_in: ClassVar[bool] = True

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """The verdict on one turn. In a pair, the answer with the higher score wins.

        Raises:
            UserError: the item comes from a suite that knows no truth.
        """
        yield from ()
        known = truth(item, turn)
        if known is None:
            raise UserError(
                f"the oracle judge knows the truth of pocket questions only, not of {item.id!r}: bind another judge"
            )
        # By name: nothing but the pocket blocks may lead to the pocket world, and these only when they run.
        grade = importlib.import_module("harness.pocket.oracle").grade
        given = grade(known, answer.outputs[turn])
        if order_of(item) is None:
            return Verdict(score=float(given.score), reason=given.reason)
        other = grade(known, opponent(item)[turn]).score
        preference = 1.5 if given.score == other else 2.0 if given.score > other else 1.0
        return Verdict(score=None, preference=preference, reason=given.reason)
