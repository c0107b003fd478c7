"""Stem: metals by weight and hardness, and counting animals' legs.

Example: "which is heavier , gold or tin ?"  ->  "gold 79 , tin 50 . / answer : gold"
"""

from __future__ import annotations

from collections.abc import Callable

from harness.pocket.forms import Form, Slots, Solution, Turn, final
from harness.pocket.words import ANIMALS, HARDNESS, LEGS, METALS, WEIGHT

SCALES = {
    "heavier": ("heaviest", WEIGHT, 1), "lighter": ("lightest", WEIGHT, -1),
    "harder": ("hardest", HARDNESS, 1), "softer": ("softest", HARDNESS, -1),
}  # fmt: skip
_MOST = {most: (table, sign) for most, table, sign in SCALES.values()}


def extreme(things: list[str], table: dict[str, int], sign: int, **more: object) -> Solution:
    """The thing with the largest (`sign` 1) or smallest (-1) value, after a line that recalls all values."""
    answer = max(things, key=lambda thing: sign * table[thing])
    recalled = " , ".join(f"{thing} {table[thing]}" for thing in things) + " ."
    return final("answer :", answer, [recalled], others=things, state=things, **more)


def _compare(word: str, slots_used: tuple[str, ...]) -> Callable[[Slots, Turn | None], Solution | None]:
    _most, table, sign = SCALES[word]
    return lambda slots, _previous: extreme([slots[s] for s in slots_used], table, sign, scale=word)


def _difference(_slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    table = SCALES[previous.truth["scale"]][1]
    low, high = sorted(table[thing] for thing in previous.truth["state"])
    return final("answer :", str(high - low), [f"{high} - {low} = {high - low}"])


def _most_again(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    table, sign = _MOST[slots["most"]]
    return extreme(previous.truth["state"], table, sign)


def _legs(slots: Slots, _previous: Turn | None) -> Solution | None:
    a, b = int(slots["n"]) * LEGS[slots["one"]], int(slots["m"]) * LEGS[slots["two"]]
    steps = [f"{slots['n']} * {LEGS[slots['one']]} = {a}", f"{slots['m']} * {LEGS[slots['two']]} = {b}"]
    return final("answer :", str(a + b), [*steps, f"{a} + {b} = {a + b}"])


def _more_legs(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    before, each, n = int(previous.truth["answer"]), LEGS[slots["one"]], int(slots["n"])
    steps = [f"{n} * {each} = {n * each}", f"{before} + {n * each} = {before + n * each}"]
    return final("answer :", str(before + n * each), steps)


FORMS = (
    *(
        Form(f"pair_{word}", "metals", f"which is {word} , {{a}} or {{b}} ?", {"a": METALS, "b": METALS},
             _compare(word, ("a", "b")), weight=0.5)
        for word in SCALES
    ),
    *(
        Form(f"three_{word}", "metals", f"which is the {SCALES[word][0]} , {{a}} , {{b}} or {{c}} ?",
             {"a": METALS, "b": METALS, "c": METALS}, _compare(word, ("a", "b", "c")), weight=0.5)
        for word in SCALES
    ),
    Form(
        "legs", "animals", "how many legs have {n} {one} and {m} {two} ?",
        # Two tables, so that both may be of one kind.
        {"n": range(2, 10), "one": ANIMALS, "m": range(2, 10), "two": ANIMALS[::-1]}, _legs, weight=2.0,
    ),
)  # fmt: skip
_PAIRS, _THREES = (tuple(f"{kind}_{word}" for word in SCALES) for kind in ("pair", "three"))
FOLLOW_UPS = (
    Form("difference", "follow", "and by how much ?", {}, _difference, _PAIRS),
    Form("most_again", "follow", "and which is the {most} ?", {"most": tuple(_MOST)}, _most_again, _THREES),
    Form(
        "more_legs", "follow", "and how many with {n} more {one} ?",
        {"n": range(2, 10), "one": ANIMALS}, _more_legs, ("legs",),
    ),
)  # fmt: skip
