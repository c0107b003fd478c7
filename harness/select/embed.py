"""`embed`: a vector per row, for blocks that compare rows by their meaning."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Columns, Context, Embed, Reply, Request, Scorer, Tolerant
from harness.engines.base import Capability
from harness.records.columns import VECTOR
from harness.records.example import Example, prompt_text
from harness.records.values import Count
from harness.select._forms import FORMS, Variant, instruction_of

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat


class Embedding(Scorer):
    """Column `vector:<column>`: the mean of the model's last hidden states over the tokens of a text, float32.

    It is read by blocks that name it in their `needs()` (neighbours, clusters) and stays out of every other's way. The
    text is plain, without the chat template, unless `form` says otherwise. `hashed`, bound to the role, is an embedder
    without a model: words and pairs of words hashed into 1,024 buckets, unit length. A row without the text, or whose
    text has no token, has none.
    """

    name: ClassVar[str] = "embed"

    model: ModelRole = identity("embedder", description="The model that embeds; `hashed` needs no download.")
    of: Literal["prompt", "answer", "both"] = identity(
        "prompt", description="The text; `both` is prompt, line break, answer."
    )
    column: str = identity("embedding", description="Name of the vector.", pattern=r"[\w-]+")
    form: Variant | None = identity(
        None,
        description="Write the prompt as a variant of `ifd` does (the header of the answer included, and what the "
        "tokenizer adds around texts), instead of plain; only for `of: prompt`.",
        source="released pre-experience script of Cherry: cherry_alpaca",
    )
    max_length: Count = identity(512, description="Longer texts lose their end.", unit="tokens")

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Embeddings of texts; a form takes the model's own tokenizer."""
        return {"model": frozenset({"embed"} if self.form is None else {"embed", "continue"})}

    def columns(self) -> tuple[str, ...]:
        """One vector."""
        return (f"{VECTOR}{self.column}",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """One request per row that has the text."""
        chat = None if self.form is None else context.chats[self.model]
        asked = [self._embed(row, chat) for row in batch]
        replies = iter((yield Tolerant(one for one in asked if one is not None)))
        found = [None if one is None else next(replies) for one in asked]
        return {self.columns()[0]: [None if isinstance(reply, Exception) else reply for reply in found]}

    def _embed(self, row: Example, chat: ChatFormat | None) -> Embed | None:
        text = self._text(row)
        if chat is None or self.form is None:
            return Embed(model=self.model, text=text, max_tokens=self.max_length) if text else None
        if self.form == "chat":
            ids = chat.render(row.prompt, add_generation_prompt=True)
        else:
            ids = chat.encode(FORMS[self.form].prompt(*instruction_of(row)), special=True)
        return Embed(model=self.model, ids=ids[: self.max_length])

    @model_validator(mode="after")
    def _form_is_of_prompts(self) -> Self:
        if self.form is not None and self.of != "prompt":
            raise ValueError("`form` says how a prompt is written: it needs `of: prompt`")
        return self

    def _text(self, row: Example) -> str | None:
        if self.of == "prompt":
            return prompt_text(row)
        if self.of == "answer" or row.answer is None:
            return row.answer if self.of == "answer" else None
        return f"{prompt_text(row)}\n{row.answer}"
