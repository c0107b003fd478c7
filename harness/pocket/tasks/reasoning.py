"""Reasoning: lines ordered by comparisons, what stands where after swaps, and chains of kinds.

Example: "bob is taller than carl . ann is taller than both . who is the tallest ?"
         "order : ann , bob , carl . / answer : ann"
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

from harness.pocket.forms import Form, Slots, Solution, Table, Turn, final
from harness.pocket.words import KINDS, NAMES, ORDERS, THINGS

_PEOPLE = ("a", "b", "c")
# The people and kinds of a story come from parts of their tables: a model that writes such a question cannot then
# name one twice, which it hardly learns to avoid.
_PLACES = ("first", "middle", "last")
_ASKED = _PLACES[::-1]  # a table of its own: the place that is asked for may be one of the two


def _ordered(order: list[str], pick: str, more: str) -> Solution:
    top, _bottom = ORDERS[more]
    answer = order[0] if pick == top else order[-1]
    return final("answer :", answer, [f"order : {' , '.join(order)} ."], state=order, more=more, others=order)


def _order(more: str) -> Callable[[Slots, Turn | None], Solution | None]:
    def solve(slots: Slots, _previous: Turn | None) -> Solution | None:
        return _ordered([slots[p] for p in _PEOPLE], slots["pick"], more)

    return solve


def _other_end(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None or slots["pick"] not in ORDERS[previous.truth["more"]]:
        return None
    return _ordered(previous.truth["state"], slots["pick"], previous.truth["more"])


def _middle(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    order: list[str] = previous.truth["state"]
    more = previous.truth["more"]
    return final("answer :", order[1], [f"order : {' , '.join(order)} ."], state=order, more=more, others=order)


def _swap(slots: Slots, _previous: Turn | None) -> Solution | None:
    one, two = _PLACES.index(slots["x"]), _PLACES.index(slots["y"])
    if one == two:
        return None
    things = [slots[p] for p in _PEOPLE]
    things[one], things[two] = things[two], things[one]
    return _placed(things, slots["z"])


def _placed(things: list[str], asked: str) -> Solution:
    line = " , ".join(things) + " ."
    return final("answer :", things[_PLACES.index(asked)], [line], state=things, others=things)


def _other_place(slots: Slots, previous: Turn | None) -> Solution | None:
    return None if previous is None else _placed(previous.truth["state"], slots["z"])


def _kind(slots: Slots, _previous: Turn | None) -> Solution | None:
    chain = [slots["k1"], slots["k2"], slots["k3"]]
    steps = [f"{slots['who']} is a {chain[0]} .", *(f"every {low} is a {high} ." for low, high in pairwise(chain))]
    return final("answer :", chain[-1], steps, state=chain, who=slots["who"], others=chain)


def _kind_again(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None or slots["ask"] not in previous.truth["state"][:-1]:
        return None
    chain = previous.truth["state"]
    step = chain.index(slots["ask"])
    said = f"every {chain[step]} is a {chain[step + 1]} ."
    return final("answer :", chain[step + 1], [said], state=chain, who=previous.truth["who"], others=chain)


def _order_forms() -> list[Form]:
    forms = []
    for more, ends in ORDERS.items():
        said = (
            f"{{a}} is {more} than {{b}} . {{b}} is {more} than {{c}} .",
            f"{{b}} is {more} than {{c}} . {{a}} is {more} than both .",
        )
        for i, story in enumerate(said):
            template = f"{story} who is the {{pick}} ?"
            slots = {"a": NAMES[0::3], "b": NAMES[1::3], "c": NAMES[2::3], "pick": ends}
            forms.append(Form(f"{more}{i}", "order", template, slots, _order(more), weight=0.4))
    return forms


def _swap_forms() -> list[Form]:
    story = f"note : {' , '.join(f'{{{p}}}' for p in _PEOPLE)} . the {{x}} and the {{y}} swap . which is {{z}} ?"
    slots: dict[str, Table] = {**dict.fromkeys(_PEOPLE, THINGS), "x": _PLACES, "y": _PLACES, "z": _ASKED}
    return [Form("swap", "swaps", story, slots, _swap, weight=3.0)]


def _kind_forms() -> list[Form]:
    slots = {"k1": KINDS[:3], "k2": KINDS[3:5], "k3": KINDS[5:], "who": NAMES}
    chain = "every {k1} is a {k2} . every {k2} is a {k3} ."
    stories = (f"{{who}} is a {{k1}} . {chain}", f"{chain} {{who}} is a {{k1}} .")
    return [
        Form(f"kind{i}", "kinds", f"{story} what is {{who}} in the end ?", slots, _kind, weight=1.5)
        for i, story in enumerate(stories)
    ]


def _draw_end(rng: Random, previous: Turn) -> Slots:
    return {"pick": rng.choice(ORDERS[previous.truth["more"]])}


def _draw_kind(rng: Random, previous: Turn) -> Slots:
    return {"ask": rng.choice(previous.truth["state"][:-1])}


FORMS = (*_order_forms(), *_swap_forms(), *_kind_forms())
_ORDER, _SWAPS, _KINDS = (
    tuple(form.name for form in FORMS if form.leaf == leaf) for leaf in ("order", "swaps", "kinds")
)
_ENDS = tuple(end for ends in ORDERS.values() for end in ends)
FOLLOW_UPS = (
    Form(
        "other_end", "follow", "and who is the {pick} ?", {"pick": _ENDS}, _other_end, _ORDER,
        weight=2.0, draw=_draw_end,
    ),
    Form("middle", "follow", "and who is in the middle ?", {}, _middle, _ORDER, weight=0.5),
    Form("other_place", "follow", "and which is {z} ?", {"z": _ASKED}, _other_place, _SWAPS),
    Form("kind_again", "follow", "and what is every {ask} ?", {"ask": KINDS}, _kind_again, _KINDS, draw=_draw_kind),
)  # fmt: skip
