"""What a suite tells a judge beside the item itself: what is known to be true, and who is shown first in a pair.

Suites write and judges read these parts of an item through the functions here, never by key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal

from harness.blocks.kinds import EvalItem

Order = Literal["answer first", "reference first"]
_TURNS, _ORDER, _SOURCE = "turns", "order", "source id"


def truths(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `truth` of an item from what is known about each of its turns."""
    return {_TURNS: [dict(turn) for turn in turns]}


def truth(item: EvalItem, turn: int) -> Mapping[str, Any] | None:
    """What is known about a turn (0-based), or None where the suite knows nothing."""
    known = item.truth.get(_TURNS, ())
    return known[turn] if turn < len(known) else None


def source_data(source_id: int | str, **more: Any) -> dict[str, Any]:
    """The `data` of an item: its own id in the source (a question id, a row number), for recorded verdicts."""
    return {_SOURCE: source_id, **more}


def source_id(item: EvalItem) -> int | str | None:
    """The id that the item has in its source."""
    return item.data.get(_SOURCE)


def pair(item: EvalItem, order: Order) -> EvalItem:
    """The item as a question for a preference between the answer and the item's reference, shown in this order."""
    return replace(item, data={**item.data, _ORDER: order})


def order_of(item: EvalItem) -> Order | None:
    """The order of a pair; None where a score of one answer is asked for."""
    return item.data.get(_ORDER)


def random_order(instruction: str) -> Order:
    """AlpacaEval's order: random, but fixed for each instruction.

    The same draw as alpaca-eval's `RandomSwitchTwoColumnsProcessor` with seed 0, so a pair is shown as it was to the
    published judges. Importing it would load the whole package for one line.
    """
    switched = Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]
    return "answer first" if switched else "reference first"
