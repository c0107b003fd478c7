"""What a suite tells a judge beside the item itself: what is known to be true, and who is shown first in a pair.

Suites write and judges read these parts of an item through the functions here, never by key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, TypeVar

from harness.blocks.kinds import EvalItem
from harness.errors import UserError
from harness.records import named
from harness.records.example import Message
from harness.records.values import DataFile

Order = Literal["answer first", "reference first"]
Side = TypeVar("Side")
_TURNS, _ORDER, _SOURCE, _OPPONENT, _REPEAT, _SCHEME, _BEFORE = (
    "turns", "order", "source id", "opponent", "repeat", "rubric", "before"
)  # fmt: skip


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


def pair(item: EvalItem, order: Order, opponent: Sequence[str] | None = None) -> EvalItem:
    """The item as a question for a preference between the answer and its opponent, shown in this order.

    The opponent is the item's reference, unless other texts are given: then the reference is what is known to be right.
    """
    other = {} if opponent is None else {_OPPONENT: list(opponent)}
    return replace(item, data={**item.data, _ORDER: order, **other})


def opponent(item: EvalItem) -> tuple[str, ...]:
    """The texts that the answer of a pair is compared with, one per turn."""
    return tuple(item.data.get(_OPPONENT, item.reference))


def guide(item: EvalItem) -> tuple[str, ...]:
    """The answers that are known to be right, one per turn; in a pair the reference may be the opponent instead."""
    return item.reference if order_of(item) is None or _OPPONENT in item.data else ()


def repeat(item: EvalItem, number: int) -> EvalItem:
    """The item as the same question asked once more (`number` from 0 on), with noise of its own."""
    return replace(item, data={**item.data, _REPEAT: number}) if number else item


def repeat_of(item: EvalItem) -> int:
    """Which repeat of a judgement this is, from 0 on."""
    return int(item.data.get(_REPEAT, 0))


@dataclass(frozen=True)
class Scheme:
    """What a user wants judged: the rubric's text, and the best grade (the worst is 1)."""

    text: str
    best: int


def scheme_data(text: str, best: int) -> dict[str, Any]:
    """The `data` of an item that is judged by a rubric of its own."""
    return {_SCHEME: {"text": text, "best": best}}


def scheme(item: EvalItem) -> Scheme | None:
    """The item's own rubric; None where the judge's usual wording counts."""
    found = item.data.get(_SCHEME)
    return None if found is None else Scheme(found["text"], found["best"])


def before_data(messages: Sequence[Message]) -> dict[str, Any]:
    """The `data` of an item whose conversation has begun: turns that were said before the first that is asked."""
    return {_BEFORE: [dict(message) for message in messages]} if messages else {}


def before(item: EvalItem) -> tuple[Message, ...]:
    """The turns of a conversation that were said before the first that is asked (no system turn)."""
    return tuple(Message(role=m["role"], content=m["content"]) for m in item.data.get(_BEFORE, ()))


def order_of(item: EvalItem) -> Order | None:
    """The order of a pair; None where a score of one answer is asked for."""
    return item.data.get(_ORDER)


def order_asked(item: EvalItem, judge: str) -> Order:
    """The order of a pair.

    Raises:
        UserError: the item is none: the suite grades single answers.
    """
    order = order_of(item)
    if order is None:
        raise UserError(f"the {judge} judge compares pairs, but this suite asks for a grade of one answer")
    return order


def shown(order: Order, answer: Side, other: Side) -> tuple[Side, Side]:
    """The two sides of a pair as they are shown, the first one first."""
    return (answer, other) if order == "answer first" else (other, answer)


def prompts_identity(prompts: DataFile | None) -> dict[str, str]:
    """A judge's own prompt file as identity: by its content, wherever it lies; nothing without one."""
    return {} if prompts is None else {"prompts": named.digest(prompts, "prompts")}


def random_order(instruction: str) -> Order:
    """AlpacaEval's order: random, but fixed for each instruction.

    The same draw as alpaca-eval's `RandomSwitchTwoColumnsProcessor` with seed 0, so a pair is shown as it was to the
    published judges. Importing it would load the whole package for one line.
    """
    switched = Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]
    return "answer first" if switched else "reference first"
