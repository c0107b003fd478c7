"""Math: word problems with one to three operations, worked steps and a last line `#### n` (GSM8K's form).

Example: "ann packs 3 boxes with 4 pens each and finds 5 more . how many pens now ?"
         "3 * 4 = 12 / 12 + 5 = 17 / #### 17" (one line each)
"""

from __future__ import annotations

from collections.abc import Callable

from harness.pocket.forms import Form, Slots, Solution, Table, Turn, final
from harness.pocket.words import ITEMS, NAMES

SMALL, TENS, LARGE = range(2, 10), range(2, 30), range(30, 90)


def calculate(start: int, steps: list[tuple[str, int]]) -> tuple[int, list[str]] | None:
    """Run `steps` on `start`; the last value and a line for each step. None where a value would be negative."""
    lines = []
    for sign, number in steps:
        value = {"+": start + number, "-": start - number, "*": start * number}[sign]
        if value < 0:
            return None
        lines.append(f"{start} {sign} {number} = {value}")
        start = value
    return start, lines


def _worked(start: int, steps: list[tuple[str, int]]) -> Solution | None:
    result = calculate(start, steps)
    return None if result is None else final("####", str(result[0]), result[1])


def _chain(first: str, signs: str) -> Callable[[Slots, Turn | None], Solution | None]:
    def solve(slots: Slots, _previous: Turn | None) -> Solution | None:
        steps = [(sign, int(slots[f"n{i}"])) for i, sign in enumerate(signs)]
        return _worked(int(slots[first]), steps)

    return solve


def _together(slots: Slots, _previous: Turn | None) -> Solution | None:
    a, b = int(slots["a"]), int(slots["b"])
    return final("####", str(a + a + b), [f"{a} + {b} = {a + b}", f"{a} + {a + b} = {a + a + b}"])


def _after(sign: str) -> Callable[[Slots, Turn | None], Solution | None]:
    def solve(slots: Slots, previous: Turn | None) -> Solution | None:
        if previous is None:
            return None
        return _worked(int(previous.truth["answer"]), [(sign, int(slots.get("n", "2")))])

    return solve


def _form(name: str, leaf: str, story: str, signs: str, weight: float = 1.0) -> Form:
    packs = story.startswith("packs")
    numbers: dict[str, Table] = {"a": SMALL if packs else LARGE}
    for i, sign in enumerate(signs):
        numbers[f"n{i}"] = SMALL if sign == "*" or (packs and sign == "-") else TENS if len(signs) < 3 else range(2, 15)
    template = f"{{who}} {story} . how many {{item}} now ?"
    return Form(name, leaf, template, {"who": NAMES, "item": ITEMS, **numbers}, _chain("a", signs), weight=weight)


_PACKS = "packs {a} boxes with {n0} {item} each"
FORMS = (
    _form("finds", "counting", "has {a} {item} and finds {n0} more", "+"),
    _form("loses", "counting", "has {a} {item} and loses {n0}", "-"),
    _form("packs", "packing", _PACKS, "*"),
    _form("finds_loses", "counting", "has {a} {item} , finds {n0} more and loses {n1}", "+-"),
    _form("loses_finds", "counting", "has {a} {item} , loses {n0} and finds {n1} more", "-+"),
    _form("packs_finds", "packing", _PACKS + " and finds {n1} more", "*+"),
    _form("packs_loses_finds", "packing", _PACKS + " , finds {n1} more and loses {n2}", "*+-"),
    _form("finds_loses_finds", "counting", "has {a} {item} , finds {n0} , loses {n1} and finds {n2} more", "+-+"),
    Form(
        "together", "sharing", "{who} has {a} {item} and {other} has {b} more . how many {item} together ?",
        {"who": NAMES, "other": NAMES, "item": ITEMS, "a": range(5, 60), "b": TENS}, _together,
    ),
)  # fmt: skip

_FIRST = tuple(form.name for form in FORMS)
FOLLOW_UPS = (
    Form("add", "follow", "now add {n} to that .", {"n": TENS}, _after("+"), _FIRST),
    Form("take", "follow", "now take {n} from that .", {"n": SMALL}, _after("-"), _FIRST),
    Form("double", "follow", "now double that .", {}, _after("*"), _FIRST),
)
