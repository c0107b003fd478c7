"""Humanities: rulers of a made-up history: when and where they ruled and what they built.

Example: "who ruled first , mira , tavo or elka ?"  ->  "mira 12 , tavo 45 , elka 23 . / answer : mira"
"""

from __future__ import annotations

from collections.abc import Callable

from harness.pocket.forms import Form, Slots, Solution, Turn, final
from harness.pocket.tasks.stem import extreme
from harness.pocket.words import LAND, REIGN, RULERS, WORK

_SIGN = {"first": -1, "last": 1}
_THREE = ("a", "b", "c")
_THREE_SLOTS = dict.fromkeys(_THREE, RULERS)


def _when(end: str) -> Callable[[Slots, Turn | None], Solution | None]:
    return lambda slots, _previous: extreme([slots[s] for s in _THREE], REIGN, _SIGN[end])


def _facts(people: list[str], table: dict[str, str], verb: str) -> Solution:
    lines = " , ".join(f"{who} {verb} {table[who]}" for who in people) + " ."
    answer = " and ".join(table[who] for who in people)
    return final("answer :", answer, [lines], state=people, others=sorted(set(table.values())))


def _built(slots: Slots, _previous: Turn | None) -> Solution | None:
    return _facts([slots[s] for s in _THREE], WORK, "built the")


def _ruled(slots: Slots, previous: Turn | None) -> Solution | None:
    people = [slots[s] for s in _THREE] if previous is None else previous.truth["state"]
    return _facts(people, LAND, "ruled")


def _years(slots: Slots, _previous: Turn | None) -> Solution | None:
    people = [slots["a"], slots["b"]]
    low, high = sorted(REIGN[who] for who in people)
    recalled = " , ".join(f"{who} {REIGN[who]}" for who in people) + " ."
    return final("answer :", str(high - low), [recalled, f"{high} - {low} = {high - low}"], state=people)


def _end_again(slots: Slots, previous: Turn | None) -> Solution | None:
    return None if previous is None else extreme(previous.truth["state"], REIGN, _SIGN[slots["end"]])


FORMS = (
    Form("first", "reigns", "who ruled first , {a} , {b} or {c} ?", _THREE_SLOTS, _when("first")),
    Form("last", "reigns", "who ruled last , {a} , {b} or {c} ?", _THREE_SLOTS, _when("last")),
    Form("years", "reigns", "how many years lie from {a} to {b} ?", {"a": RULERS, "b": RULERS}, _years, weight=0.4),
    Form("built", "works", "what did {a} , {b} and {c} build ?", _THREE_SLOTS, _built),
    Form("ruled", "lands", "where did {a} , {b} and {c} rule ?", _THREE_SLOTS, _ruled),
)
FOLLOW_UPS = (
    Form("end_again", "follow", "and who ruled {end} ?", {"end": tuple(_SIGN)}, _end_again,
         ("first", "last", "built", "ruled")),
    Form("where_again", "follow", "and where did they rule ?", {}, _ruled, ("first", "last", "years", "built")),
)  # fmt: skip
