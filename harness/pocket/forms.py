"""Question forms: one declaration from which a question is generated, parsed back and solved.

A form is a template with named slots. Sampling fills the slots, parsing reads them back from any text (also one that a
model wrote), and `solve` gives the truth. Because generating and understanding share the template they cannot drift.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any

Slots = dict[str, str]
Table = tuple[str, ...] | range

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Turn:
    """One user turn with its reference answer and what the oracle needs to judge another answer.

    Attributes:
        user: What is asked.
        reference: A right answer in the asked form.
        truth: JSON-able; always has `category`, `leaf`, `form`, `kind` (how the oracle reads an answer) and `answer`.
    """

    user: str
    reference: str
    truth: dict[str, Any]


@dataclass(frozen=True)
class Solution:
    """A reference answer and the kind-specific part of its truth."""

    reference: str
    kind: str
    answer: str
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """A family of questions that share one wording.

    Attributes:
        name: Unique inside the category.
        leaf: The taxonomy leaf that it belongs to.
        template: Wording with `{slot}` places; a slot that occurs twice must have one value.
        slots: Slot -> its table of words, or the range that numbers are drawn from.
        solve: (slots, previous turn) -> Solution, or None where the question has no answer.
        follows: Names of the forms that this one can follow as a second turn; empty for first turns.
        weight: Relative frequency inside the category.
        draw: How a second turn gets slots that fit the first one, where free choice would rarely do.
    """

    name: str
    leaf: str
    template: str
    slots: Mapping[str, Table]
    solve: Callable[[Slots, Turn | None], Solution | None]
    follows: tuple[str, ...] = ()
    weight: float = 1.0
    draw: Callable[[Random, Turn], Slots] | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The template as a regular expression over a whole user turn."""
        seen: set[str] = set()

        def group(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in seen:
                return f"(?P={name})"
            seen.add(name)
            table = self.slots[name]
            return f"(?P<{name}>{'[0-9]{1,3}' if isinstance(table, range) else '|'.join(map(re.escape, table))})"

        parts = _SLOT.split(self.template)
        text = "".join(re.escape(p) if i % 2 == 0 else "{" + p + "}" for i, p in enumerate(parts))
        return re.compile(_SLOT.sub(group, text))

    def sample(self, rng: Random, previous: Turn | None = None) -> str:
        """Fill the slots at random; slots that share a table get different words."""
        if self.draw is not None and previous is not None:
            return self.template.format(**self.draw(rng, previous))
        used: dict[int, list[str]] = {}
        values: Slots = {}
        for name, table in self.slots.items():
            if isinstance(table, range):
                values[name] = str(rng.choice(table))
                continue
            taken = used.setdefault(id(table), [])
            values[name] = rng.choice([w for w in table if w not in taken])
            taken.append(values[name])
        return self.template.format(**values)

    def parse(self, user: str) -> Slots | None:
        """Slots of a text that has this wording, or None."""
        match = self.pattern.fullmatch(user)
        if match is None:
            return None
        values = match.groupdict()
        seen: set[tuple[int, str]] = set()
        for name, table in self.slots.items():
            key = (id(table), values[name])
            if not isinstance(table, range) and key in seen:
                return None
            seen.add(key)
        return values


def turn(category: str, form: Form, user: str, previous: Turn | None) -> Turn | None:
    """Parse and solve `user` as an instance of `form`; None where it is another wording or has no answer."""
    slots = form.parse(user)
    if slots is None:
        return None
    if any(isinstance(table, range) and slots[name] != str(int(slots[name])) for name, table in form.slots.items()):
        return None  # a number with leading zeros is not one of ours
    solution = form.solve(slots, previous)
    if solution is None:
        return None
    truth = {"category": category, "leaf": form.leaf, "form": form.name, "kind": solution.kind}
    return Turn(user, solution.reference, {**truth, "answer": solution.answer, **solution.more})


def final(marker: str, answer: str, steps: list[str], **more: Any) -> Solution:
    """A worked answer: one line per step, then a last line `<marker> <answer>`."""
    lines = [*steps, f"{marker} {answer}"]
    return Solution("\n".join(lines), "final", answer, {"marker": marker, **more})
