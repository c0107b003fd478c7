"""Compares final answers as numbers: 70.00 is 70, 2,125 is 2125, −3 is -3."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

# A comma counts inside a number only before groups of three digits: `1, 2` and `1,2` are two numbers.
_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+")
_PLAIN = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_MARKER = re.compile(r"^[ \t]*####[ \t]*(?P<rest>.*?)[ \t]*[.%]?[ \t]*$", re.MULTILINE)
_CURRENCY = "[$€£]"
_SIGN = re.compile(
    rf"(?:[-−–]{_CURRENCY}?|{_CURRENCY}[-−–])$"  # touching the number: -5, -$5, $-5
    rf"|(?<==)\s*[-−–]\s{_CURRENCY}?$"  # apart from it, after an equals sign only: = - 5
)
_OPERAND = re.compile(r"(?:[\w)%\]]|[\d)]\s*)$")
_AROUND = re.compile(rf"[-−–+\s]|{_CURRENCY}")


def final_number(text: str) -> Decimal | None:
    """The number that is all of the first line `#### n`, else the last number of the text; None where it has none."""
    marker = text.find("####")
    plain = _plain_ending(text, marker) if marker >= 0 else None
    if plain is not None:
        return plain
    for line in _MARKER.finditer(text, text.rfind("\n", 0, marker) + 1) if marker >= 0 else ():
        if _PLAIN.fullmatch(line["rest"]):
            return Decimal(line["rest"].replace(",", ""))
        found = list(_NUMBER.finditer(line["rest"]))
        if len(found) == 1 and not _AROUND.sub("", line["rest"].replace(found[0][0], "")):
            return _value(line["rest"], found[0])
    numbers = list(_NUMBER.finditer(text))
    return _value(text, numbers[-1]) if numbers else None


def _plain_ending(text: str, marker: int) -> Decimal | None:
    """The number of a first line `#### n` without anything else on it, as most answers end; None for any other."""
    start, end = text.rfind("\n", 0, marker) + 1, text.find("\n", marker)
    rest = text[marker + 4 : end if end >= 0 else None].strip(" \t")
    alone = not text[start:marker].strip(" \t") and _PLAIN.fullmatch(rest)
    return Decimal(rest.replace(",", "")) if alone else None


def all_numbers(text: str) -> frozenset[Decimal]:
    """The values of all numbers in a text, without their signs."""
    return frozenset(Decimal(match[0].replace(",", "")) for match in _NUMBER.finditer(text))


def same_number(answer: str, gold: str) -> bool:
    """True where both texts end in the same number.

    Raises:
        ValueError: the gold text has no number.
    """
    wanted = _gold_number(gold)
    if wanted is None:
        raise ValueError(f"the gold answer has no number: {gold[-80:]!r}")
    return final_number(answer) == wanted


@lru_cache(maxsize=1 << 16)
def _gold_number(text: str) -> Decimal | None:
    """The number of a gold answer, which every cell of a grid is compared with."""
    return final_number(text)


def _value(text: str, match: re.Match[str]) -> Decimal:
    """The number with its sign. After a number, a word or a bracket a minus is a subtraction or a range, no sign."""
    number = Decimal(match[0].replace(",", ""))
    before = text[max(0, match.start() - 12) : match.start()]
    sign = _SIGN.search(before)
    return -number if sign and not _OPERAND.search(before[: sign.start()]) else number
