"""`ifd`: how little an instruction helps a model to predict the answer (2308.12032, 2402.00530)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer, Tolerant
from harness.engines.base import Capability
from harness.records.example import Example
from harness.records.values import Count
from harness.select._forms import FORMS, instruction_of
from harness.select._spans import Ids, Pair, as_released, in_chat, longest, mean, mended, no_prompt

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

Variant = Literal["chat", "cherry_alpaca", "cherry_vicuna", "wiz", "superfiltering"]
CHAT_LENGTH = 2048
LARGEST = 700.0
"""Nats: `exp` of more is no longer a number."""


class Ifd(Scorer):
    """Instruction-following difficulty, with the two losses that it is made of.

    Columns, in nats per answer token: `ca`, the mean loss of the answer after its prompt; `da`, the mean loss of the
    answer without it; and `ifd`: `ca / da`, or `exp(ca - da)` for `superfiltering`. The two order rows differently and
    agree on 1, above which the instruction makes the answer less likely. A row is missing (None) where it has no answer
    or none of it fits in `max_length`.

    Variants: `chat` renders the whole conversation with the model's own template; its direct score keeps the template
    with an empty user turn, so that what differs is the prompt alone and both scores see the same answer tokens
    (tokenised by themselves, without the end token). The others are the released scripts with their prompts, offsets
    and truncation: `cherry_alpaca` and `wiz` (v1), `cherry_vicuna` (v2), `superfiltering` (no template, no prefix).
    `as_released: false` keeps their prompts but counts tokens rightly for any tokenizer. What the v1 selector does to
    `wiz` rows with an input (it cuts their losses at the wrong token) is not reproduced.
    """

    name: ClassVar[str] = "ifd"

    model: ModelRole = identity("student", description="The model whose losses are compared.")
    variant: Variant = identity("chat", description="Whose prompt and formula.", source="specified in the class text")
    max_length: Count | None = identity(
        None,
        description="Tokens of prompt and answer; longer rows lose the end of their answer. By default the variant's "
        f"own: {CHAT_LENGTH} for chat, 512 for Cherry, 1024 for Superfiltering.",
        unit="tokens",
    )
    as_released: bool = identity(True, description="Reproduce the released token counts; `chat` has none to reproduce.")

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Losses of given answers."""
        return {"model": frozenset({"logprobs"})}

    def columns(self) -> tuple[str, ...]:
        """The score and its two parts."""
        return ("ifd", "ca", "da")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Asks for both spans of every row at once, so an engine can sort them by length."""
        chat = context.chats[self.model]
        bare = no_prompt(chat) if self.variant == "chat" else ()
        pairs = [self._spans(chat, row, bare) for row in batch]
        replies = iter((yield Tolerant(span.ask(self.model) for pair in pairs if pair for span in pair)))
        scores = [self._scores(next(replies), next(replies)) if pair else (None, None, None) for pair in pairs]
        return {name: [row[index] for row in scores] for index, name in enumerate(self.columns())}

    def _spans(self, chat: ChatFormat, row: Example, bare: Ids) -> Pair | None:
        if not row.answer:
            return None
        if self.variant == "chat":
            return in_chat(chat, row.prompt, row.answer, longest(chat, self.max_length or CHAT_LENGTH), bare)
        form = FORMS[self.variant]
        length = longest(chat, self.max_length or form.max_length)
        build = as_released if self.as_released else mended
        return build(chat, form, instruction_of(row), row.answer, length)

    def _scores(self, conditioned: Any, direct: Any) -> tuple[float | None, float | None, float | None]:
        if isinstance(conditioned, Exception) or isinstance(direct, Exception):
            return None, None, None
        ca, da = -mean(conditioned), -mean(direct)
        if self.variant == "superfiltering":
            return math.exp(min(ca - da, LARGEST)), ca, da
        return (ca / da if da > 0 else None), ca, da
