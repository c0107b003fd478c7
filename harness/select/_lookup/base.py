"""What every source of passages is: given questions, it gives passages or says why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

FOUND, NO_HITS = "found", "no hits"


@dataclass(frozen=True)
class Looked:
    """What was found for one question: passages, best first, and an outcome in short stable words.

    `failed: ...` is an outcome as well, so that one search that fails is not a row that fails.
    """

    passages: tuple[str, ...] = ()
    outcome: str = NO_HITS

    @classmethod
    def of(cls, passages: Sequence[str]) -> Looked:
        """Found, or no hits where there are none."""
        return cls(tuple(passages), FOUND if passages else NO_HITS)


class Provider(Protocol):
    """A source of passages. It may be asked many times and keeps no state that changes an answer."""

    def look_up(self, questions: Sequence[str], hits: int) -> list[Looked]:
        """At most `hits` passages for each question, in the order of the questions."""
        ...
