"""Reads a label or a number out of what a model wrote, and says why where it cannot.

A model that was asked for one word writes `{"difficulty": "hard"}`, `[[hard]]`, `Difficulty: hard.` or a page of
thoughts with the word at the end. What it wrote is read in a fixed order of forms, and a text that gives two different
values in one form gives none: a value that the model only quotes must not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NO_VALUE, SEVERAL, NOT_ALLOWED = "no value", "several values", "value not allowed"
_BRACKETS = (re.compile(r"\[\[([^\[\]]+)\]\]"), re.compile(r"\[([^\[\]]+)\]"))
_NAMED = re.compile(r"^[\w ()/&-]{1,40}?\s*(?::|=|\bis\b)\s*")
_OUT_OF = re.compile(r"\s*(?:/|\bout of\b)\s*\d+(?:\.\d+)?$", re.IGNORECASE)
_AROUND = " \t\n.,;!*_`\"'“”()"


@dataclass(frozen=True)
class Read:
    """A value (a label, or a number), or the reason why there is none; `extras` are other keys of a JSON reply."""

    value: str | float | None
    problem: str | None = None
    extras: Mapping[str, Any] | None = None


def read(text: str, allowed: Callable[[Any], str | float | None], key: str, pattern: str | None = None) -> Read:
    """The one value that a text states.

    With `pattern`, it is the first group of that regular expression and nothing else counts. Otherwise, in this order:
    a JSON object with `key` anywhere in the text, double brackets, single brackets, and the text, its last line or its
    first line alone (after `Name:` at most).

    Args:
        text: What the model wrote.
        allowed: A stated value as a label or number of the scale; None where it is neither.
        key: The name of the value in a JSON object.
        pattern: A regular expression with one group, or None.
    """
    if pattern is not None:
        return _one([match.group(1) for match in re.finditer(pattern, text.strip())], allowed)
    objects = [found for found in json_objects(text) if key in found]
    if objects:
        return Read(**{**vars(_one([found[key] for found in objects], allowed)), "extras": objects[-1]})
    for form in _BRACKETS:
        if found := form.findall(text):
            outcome = _one(found, allowed)
            if outcome.problem != NOT_ALLOWED:
                return outcome
    return _line(text, allowed)


def _one(stated: list[Any], allowed: Callable[[Any], str | float | None]) -> Read:
    values = {value for one in stated if (value := allowed(one)) is not None}
    if len(values) == 1:
        return Read(values.pop())
    return Read(None, SEVERAL if values else NOT_ALLOWED if stated else NO_VALUE)


def _line(text: str, allowed: Callable[[Any], str | float | None]) -> Read:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    for line in dict.fromkeys((text.strip(), *lines[-1:], *lines[:1])):
        for candidate in (line, _NAMED.sub("", line, count=1)):
            if (value := allowed(candidate)) is not None:
                return Read(value)
    return Read(None, NO_VALUE)


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in a text, outermost ones only; braces inside strings do not end one."""
    decoder, at = json.JSONDecoder(strict=False), text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            end = at + 1
        else:
            yield found
        at = text.find("{", end)


def label_of(labels: Mapping[str, str]) -> Callable[[Any], str | None]:
    """Reads a stated value as one of `labels` (accepted spelling to label), whatever its case and punctuation."""
    known = {_plain(spelling): label for spelling, label in labels.items()}
    return lambda stated: known.get(_plain(stated)) if isinstance(stated, str) else None


def number_of(low: float, high: float) -> Callable[[Any], float | None]:
    """Reads a stated value as a number from `low` to `high`; `4/5` is 4."""

    def number(stated: Any) -> float | None:
        if isinstance(stated, bool) or not isinstance(stated, int | float | str):
            return None
        try:
            value = float(_OUT_OF.sub("", stated.strip(_AROUND)) if isinstance(stated, str) else stated)
        except ValueError:
            return None
        return value if low <= value <= high else None

    return number


def _plain(text: str) -> str:
    return " ".join(text.strip(_AROUND).casefold().split())
