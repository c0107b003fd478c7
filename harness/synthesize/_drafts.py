"""Rows in the making of the LAB blocks, and what ends them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

UNREADABLE, REJECTED, CUT, NOTHING, DUPLICATE = "unreadable", "rejected", "cut", "nothing found", "duplicate"


@dataclass
class Draft:
    """A row in the making. `number` is its place in the order of generation, which its id and seeds come from."""

    number: int
    values: dict[str, str]
    """What prompts may say: the leaf's texts, then question, response, context, document of this draft."""
    parents: tuple[str, ...] = ()
    reason: str | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        return self.values.get("question", "")

    def drop(self, stage: str, why: str, text: str | None = None) -> None:
        """Ends the draft; `text` is the reply that could not be used."""
        self.reason = f"{stage}: {why}"
        if text is not None:
            self.notes["reply"] = text


def at(stage: str, stages: Sequence[str], number: int) -> int:
    """The draw of a request: the same whatever other stages ask, so that a judge more or less changes no answer."""
    return (stages.index(stage) + 1) * 10_000_000 + number


def alive(drafts: Iterable[Draft]) -> list[Draft]:
    """Drafts that no stage has dropped yet."""
    return [draft for draft in drafts if draft.reason is None]


def unique(drafts: Sequence[Draft], known: Iterable[str], also: Sequence[str] = ()) -> None:
    """Drops drafts whose question (with the values `also`, white space and case aside) was there before.

    `known` are the seeds' questions, each after the seed's own values of `also`: a question that is asked again of
    another context is another row. This happens before anything is judged or answered, over the whole item.
    """
    seeds, seen = {plain(text) for text in known}, set()
    for draft in alive(drafts):
        key = tuple(plain(draft.values.get(name, "")) for name in (*also, "question"))
        if " ".join(key) in seeds:
            draft.drop("question", "a seed's")
        elif key in seen:
            draft.drop("question", DUPLICATE)
        seen.add(key)


def plain(text: str) -> str:
    """A text for comparison: white space and case do not count."""
    return " ".join(text.casefold().split())
