"""Instructions that grow round by round (`self_instruct`), and what one round made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.records.example import Dropped, Example, prompt_text
from harness.synthesize._converse import CUT_RESPONSE, EMPTY_RESPONSE, NO_RESPONSE
from harness.synthesize._novelty import Novelty

UNANSWERED = frozenset({EMPTY_RESPONSE, CUT_RESPONSE, NO_RESPONSE})
"""Reasons of instructions that were taken and have no answer: they count, and are shown, all the same."""


def taken(one: Example | Dropped) -> bool:
    """Whether what a round made is an instruction that counts."""
    return isinstance(one, Example) or one.reason in UNANSWERED


@dataclass
class Growing:
    """The instructions so far, shared by the rounds of a stage."""

    novelty: Novelty
    seeds: Sequence[Example]
    made: list[Example] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _read: int = 0

    def add(self, row: Example) -> None:
        self.made.append(row)
        self._known.add(row.id)

    def catch_up(self, earlier: Sequence[Example | Dropped]) -> None:
        """Takes over the instructions of rounds that were read back instead of made in this process."""
        for one in earlier[self._read :]:
            row = one.example if isinstance(one, Dropped) else one
            if taken(one) and row.id not in self._known:
                self.novelty.add(prompt_text(row))
                self.add(row)
        self._read = len(earlier)


@dataclass
class Round:
    """What one round made. Rows are named `name` and their number in the stage; `before` came before this round."""

    growing: Growing
    name: str
    before: int
    taken: list[Example] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def next_id(self) -> str:
        return f"{self.name}/{self.before + len(self.taken) + len(self.dropped)}"

    def take(self, row: Example) -> None:
        self.growing.add(row)
        self.taken.append(row)
