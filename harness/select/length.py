"""`length`: how long an answer, a prompt or both are. The plainest baseline that a selection method has to beat."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from harness.blocks.base import OptionalRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer
from harness.engines.base import Capability
from harness.records.example import Example, prompt_text


class Length(Scorer):
    """Column `length`; missing where a row has no answer to measure.

    Magpie's last filter keeps the longest answers (2406.08464, Table 5).
    """

    name: ClassVar[str] = "length"

    of: Literal["answer", "prompt", "both"] = identity("answer", description="The part that is measured.")
    unit: Literal["characters", "words", "tokens"] = identity(
        "characters", description="Words are what white space separates; tokens are those of `model`."
    )
    model: OptionalRole = identity(None, description="The model whose tokenizer counts; needed for tokens only.")

    @model_validator(mode="after")
    def _tokens_need_a_model(self) -> Self:
        if (self.unit == "tokens") != (self.model is not None):
            raise ValueError("`unit: tokens` and `model` belong together: tokens are counted by a model's tokenizer")
        return self

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A tokenizer, which is as good as token ids."""
        return {"model": frozenset({"continue"})}

    def columns(self) -> tuple[str, ...]:
        """One column."""
        return ("length",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Measures each row; asks nothing."""
        yield from ()
        return {"length": [self._length(row, context) for row in batch]}

    def _length(self, row: Example, context: Context) -> float | None:
        if self.of != "prompt" and row.answer is None:
            return None
        parts = {
            "answer": [row.answer or ""],
            "prompt": [prompt_text(row)],
            "both": [prompt_text(row), row.answer or ""],
        }
        return float(sum(self._count(text, context) for text in parts[self.of]))

    def _count(self, text: str, context: Context) -> int:
        if self.unit == "characters":
            return len(text)
        return len(text.split()) if self.model is None else len(context.chats[self.model].encode(text))
