"""Recorded judgements of arena-hard-auto: one row per prompt and model, with one game per order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.blocks.kinds import Answer, EvalItem, Verdict
from harness.judges._tasks import Order, opponent, shown
from harness.judges.verdicts import preference, scale

KEYS = frozenset({"question_id", "games"})
"""What marks such a row."""
_SHOWN = "<|The Start of Assistant {0}'s Answer|>\n{1}\n<|The End of Assistant {0}'s Answer|>"


def recorded(rows: Sequence[Mapping[str, Any]], item: EvalItem, answer: Answer, turn: int, order: Order) -> Verdict:
    """The verdict of the game in which these two answers were shown in this order, read anew from the judge's text.

    Args:
        rows: those about this prompt, of any model.
        item: the pair.
        answer: the model's.
        turn: 0-based.
        order: who is shown first.
    """
    first, second = shown(order, answer.outputs[turn], opponent(item)[turn])
    wanted = squeezed("\n".join((_SHOWN.format("A", first), _SHOWN.format("B", second))))
    for row in reversed(rows):
        for game in row.get("games") or ():
            if squeezed(str(game.get("user_prompt", ""))).endswith(wanted):
                raw = str(game.get("judgment", ""))
                found = scale(raw)
                if found is None:
                    return Verdict(score=None, raw=raw, parsed=False)
                return Verdict(score=None, preference=preference(found[0], order), strong=found[1], raw=raw)
    return Verdict(score=None, reason="the recorded verdict is about other answers", parsed=False)


def squeezed(text: str) -> str:
    """The text with each run of white space as one blank: recorded prompts differ in nothing else."""
    return " ".join(text.split())
