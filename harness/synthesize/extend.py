"""`extend`: further user turns, and answers to them, for conversations that exist (Magpie's multi-turn sets)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Drop, Item, Made, Reply, Request
from harness.records.cut import CUT_ANSWER, is_cut, with_cuts
from harness.records.example import Dropped, Example, Origin
from harness.records.values import Count
from harness.synthesize._converse import Conversing


class Extend(Conversing):
    """Conversations with `turns` user turns; those that have as many already pass through unchanged.

    The model is shown the conversation and the opening of the next user turn, after a system turn that tells it that
    the conversation goes on (prompt `magpie_turns`, where its pack has one: small models forget that they play the
    user). The answer is given without that system turn. A row whose next turn cannot be used is dropped with the
    reason; its shorter form is its parent. Scores, tags and fields (columns of the file, what judges wrote) of a longer
    conversation are not those of its parent: only `keep_tags`, `keep_fields` and `fields.made` stay.
    """

    name: ClassVar[str] = "extend"
    version: ClassVar[int] = 2

    turns: Count = identity(2, description="User turns of a finished row.", source="2406.08464 §2.2: 2")
    temperature: float = identity(1.0, gt=0, description="Of the instructions.", source="released scripts, gen_mt")
    top_p: float = identity(1.0, gt=0, le=1, description="Of the instructions.", source="released scripts, gen_mt")
    keep_tags: tuple[str, ...] = identity(
        ("category", "asked_language"), description="Tags of the first turns that hold for the whole conversation too."
    )
    keep_fields: tuple[str, ...] = identity(
        (), description="Fields of the first turns that hold for the whole conversation too."
    )

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per row."""
        for row in rows:
            yield Item(id=row.id, row=row)

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Asks for one user turn after the other, each with its answer."""
        row = item.row
        if row is None or row.answer is None:
            return Drop("no answer to go on from")
        done = sum(m["role"] == "user" for m in row.messages)
        if done >= self.turns:
            return [row]
        if is_cut(row):
            return Drop("cut answer: nothing can follow it")
        system = tuple(m for m in row.messages if m["role"] == "system")
        messages = tuple(m for m in row.messages if m["role"] != "system")
        decoding = self.later(context, self.temperature, self.top_p, system)
        made: list[Mapping[str, Any]] = []
        for number in range(done, self.turns):
            turn = yield from self.talk(row.id, context, messages, decoding, number, number + 1 == self.turns, system)
            messages = turn.messages
            made.append(turn.made)
            longer = self._longer(row, (*system, *messages), made, turn.cut, context)
            if turn.reason:
                return [Dropped(longer, turn.reason)]
        return [longer]

    def _longer(
        self, row: Example, messages: Any, made: Sequence[Mapping[str, Any]], cut: bool, context: Context
    ) -> Example:
        kept = {name: value for name, value in row.fields.items() if name in self.keep_fields}
        return replace(
            row,
            id=f"{row.id}/{context.block}/{context.iteration}",
            messages=messages,
            group=row.group or row.id,
            rejected=None,
            candidates=(),
            fields=with_cuts({**kept, "made": [*row.fields.get("made", ()), *made]}, **{CUT_ANSWER: cut}),
            tags={name: value for name, value in row.tags.items() if name in self.keep_tags},
            scores={},
            origin=Origin(block=self.name, parents=(row.id,), model=self.model, iteration=context.iteration),
        )
