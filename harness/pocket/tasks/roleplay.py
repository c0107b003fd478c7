"""Roleplay: answer a small task in a character's voice, which has a fixed opening and closing.

Example: "you are a pirate . what is 3 + 14 ?"  ->  "arr ! it is 17 , matey ."
"""

from __future__ import annotations

from random import Random

from harness.pocket.forms import Form, Slots, Solution, Turn
from harness.pocket.words import NAMES, OPPOSITES, VOICES

_WHO = tuple(VOICES)
_HOT = tuple(OPPOSITES)


def _voiced(who: str, answer: str) -> Solution:
    opening, closing = VOICES[who]
    return Solution(
        f"{opening} {answer} {closing}", "voice", answer, {"opening": opening, "closing": closing, "voice": who}
    )


def _sum(slots: Slots, _previous: Turn | None) -> Solution | None:
    return _voiced(slots["who"], f"it is {int(slots['a']) + int(slots['b'])}")


def _opposites(slots: Slots, _previous: Turn | None) -> Solution | None:
    return _voiced(slots["who"], f"it is {OPPOSITES[slots['a']]} and {OPPOSITES[slots['b']]}")


def _greet(slots: Slots, _previous: Turn | None) -> Solution | None:
    return _voiced(slots["who"], f"good day {slots['a']} and {slots['b']}")


def _as_other(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None or previous.truth["voice"] == slots["who"]:
        return None
    return _voiced(slots["who"], previous.truth["answer"])


def _draw_other(rng: Random, previous: Turn) -> Slots:
    return {"who": rng.choice([who for who in _WHO if who != previous.truth["voice"]])}


FORMS = (
    Form("sum", "sums", "you are a {who} . what is {a} + {b} ?",
         {"who": _WHO, "a": range(2, 50), "b": range(2, 50)}, _sum),
    Form("opposites", "opposites", "you are a {who} . what are the opposites of {a} and {b} ?",
         {"who": _WHO, "a": _HOT, "b": _HOT}, _opposites),
    Form("greet", "greetings", "you are a {who} . greet {a} and {b} .",
         {"who": _WHO, "a": NAMES, "b": NAMES}, _greet),
)  # fmt: skip
FOLLOW_UPS = (
    Form("as_other", "follow", "now say it as a {who} .", {"who": _WHO}, _as_other,
         ("sum", "opposites", "greet"), draw=_draw_other),
)  # fmt: skip
