"""`raft`: puts documents before the questions of knowledge rows, the right one, distractors, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

from pydantic import model_validator

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Item, Made, Reply, Request, Synthesizer
from harness.records.example import Dropped, Example, LossOn, Message, Origin
from harness.records.values import Count
from harness.synthesize._twice import again

NO_DOCUMENT = "no document"


class Raft(Synthesizer):
    """Rows with documents in the prompt (RAFT, arXiv 2403.10131), as LAB's released data mixing builds them.

    With probability `source_share` a row gets the document that it was made from and `documents - 1` distractors, else
    `documents` distractors without it; all from other chunks of the same leaf, in random order. Where the leaf has one
    chunk only, that one stands alone; where it has fewer than wanted, all are used. Other versions of the row's own
    chunk are never distractors: they may hold the answer (the released code takes them). Draws depend on the data seed
    and the row's id alone.

    Two settings give the released mixes: `source_share: 1, documents: 1, loss_on: all` is the first phase's (p07,
    document, question and answer all trained), the defaults are the second phase's (p10, answers only). Rows tagged
    `part: auxiliary` pass with `loss_on` changed; other rows without a document are dropped: `no document`.
    """

    name: ClassVar[str] = "raft"

    source_share: float = identity(
        0.4, ge=0, le=1, description="Share of rows that get their own document.", source="released data mixing"
    )
    documents: Count = identity(4, description="Documents per prompt.", source="released data mixing")
    loss_on: LossOn = identity("assistant", description="What is trained: answers, or all (the released `unmask`).")
    label: str = identity(
        "Document:\n", description="Stands before each document where there may be several.", source="released"
    )

    @model_validator(mode="after")
    def _some_document(self) -> Self:
        if self.documents == 1 and 0 < self.source_share < 1:
            raise ValueError(
                "documents: 1 with a source_share between 0 and 1 gives one document, right or wrong: "
                "write source_share: 1, or more documents"
            )
        return self

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per row, with the documents that are drawn for it."""
        given = again(rows)
        pool = _pool(given)
        for row in given:
            document = row.fields.get("document")
            chosen = self._drawn(row, document, pool, context) if isinstance(document, str) else []
            yield Item(id=row.id, row=row, data={"documents": chosen})

    def _drawn(self, row: Example, document: str, pool: Mapping[str, _Leaf], context: Context) -> list[str]:
        rng = context.rng(row.id)
        leaf = pool[str(row.tags.get("leaf"))]
        own = leaf.of_chunk(_chunk(row), document)
        others = len(leaf.texts) - len(own)
        with_source = rng.random() < self.source_share or not others
        wanted = self.documents - 1 if with_source else self.documents
        drawn = rng.sample(range(others), min(wanted, others))
        chosen = [leaf.texts[_beyond(place, own)] for place in drawn] + ([document] if with_source else [])
        rng.shuffle(chosen)
        return chosen

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Builds the row; asks nothing."""
        yield from ()
        row = item.row
        if row is None or (not item.data["documents"] and row.tags.get("part") != "auxiliary"):
            return [Dropped(row or Example(id=item.id, messages=()), NO_DOCUMENT)]
        name = f"{row.id}/{context.block}"
        origin = Origin(block=self.name, parents=(row.id,), iteration=context.iteration)
        messages = self._messages(row, item.data["documents"])
        return [replace(row, id=name, group=name, messages=messages, loss_on=self.loss_on, origin=origin)]

    def _messages(self, row: Example, documents: Sequence[str]) -> tuple[Message, ...]:
        if not documents:
            return row.messages
        label = self.label if self.documents > 1 else ""
        shown = "\n\n".join(f"{label}{text}" for text in documents)
        at = next((i for i, turn in enumerate(row.messages) if turn["role"] == "user"), 0)
        turn = Message(role="user", content=f"{shown}\n\n{row.messages[at]['content']}")
        return (*row.messages[:at], turn, *row.messages[at + 1 :])


class _Leaf:
    """The documents of a leaf, in an order that does not depend on that of the rows, and where each chunk's are."""

    def __init__(self, documents: Mapping[str, str]) -> None:
        self.texts = sorted(documents, key=_hash)
        self._place = {text: place for place, text in enumerate(self.texts)}
        self._chunks: dict[str, list[int]] = {}
        for text, place in self._place.items():
            self._chunks.setdefault(documents[text], []).append(place)

    def of_chunk(self, chunk: str, document: str) -> list[int]:
        """Places of a chunk's versions and of the document, lowest first."""
        return sorted({*self._chunks.get(chunk, ()), self._place[document]})


def _beyond(place: int, left_out: Sequence[int]) -> int:
    """The place in the whole list of what is at `place` in the list without `left_out` (lowest first)."""
    for taken in left_out:
        place += taken <= place
    return place


def _pool(rows: Iterable[Example]) -> dict[str, _Leaf]:
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        document = row.fields.get("document")
        if isinstance(document, str):
            found.setdefault(str(row.tags.get("leaf")), {})[document] = _chunk(row)
    return {leaf: _Leaf(texts) for leaf, texts in found.items()}


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _chunk(row: Example) -> str:
    return str(row.fields.get("chunk", row.id))
