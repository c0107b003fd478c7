"""`chunk`: cuts documents into pieces of so many tokens."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Self

from pydantic import model_validator

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Context, Drop, Item, Made, Reply, Request, Synthesizer
from harness.engines.base import Capability
from harness.records.example import Example, Message, Origin
from harness.records.values import Count
from harness.synthesize._chunks import chunks


class Chunk(Synthesizer):
    """One row per piece of each document; rows that have an answer are no documents and pass unchanged.

    A document is a row whose text is its one user turn (those of a taxonomy), or stands in the field `text` (those of a
    folder). Cuts fall where the text has its joints: headings, paragraphs, sentences, words. Reason: `empty document`.
    `lab_knowledge` cuts by itself; this block is for other uses, such as a retrieval index.
    """

    name: ClassVar[str] = "chunk"
    random: ClassVar[bool] = False

    model: ModelRole = identity("student", description="The model whose tokenizer counts.")
    tokens: Count = identity(500, description="Longest piece.", unit="tokens", source="released LAB pipelines")
    overlap: int = identity(0, ge=0, description="Tokens that neighbouring pieces may share.", unit="tokens")
    markdown: bool = identity(True, description="Cut at headings, lists and code blocks first.")

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.overlap >= self.tokens:
            raise ValueError("overlap should be smaller than tokens")
        return self

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A tokenizer, which is as good as token ids."""
        return {"model": frozenset({"continue"})}

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per row."""
        for row in rows:
            yield Item(id=row.id, row=row)

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Cuts one document; asks nothing."""
        yield from ()
        row = item.row
        if row is None:
            return Drop("no row")
        if row.answer is not None:
            return [row]
        found = row.fields.get("text") if not row.messages else row.messages[0]["content"]
        pieces = chunks(str(found or ""), context.chats[self.model], self.tokens, self.overlap, self.markdown)
        if not pieces:
            return Drop("empty document")
        origin = Origin(block=self.name, parents=(row.id,))
        fields = {name: value for name, value in row.fields.items() if name != "text"}
        return [
            replace(
                row,
                id=f"{row.id}/{context.block}/{number}",
                messages=(Message(role="user", content=piece),),
                fields={**fields, "chunk": number},
                origin=origin,
            )
            for number, piece in enumerate(pieces)
        ]
