"""One family of forward passes behind every loss-based score: of an answer with and without its prompt, and back.

A block names the losses that it needs; each batch's texts are tokenised in one or two calls, equal requests are asked
once, and vocabulary logits are computed by the engine at scored tokens only.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer, Tolerant
from harness.engines.base import Capability
from harness.records.example import Example, Message, prompt_text
from harness.records.values import Count
from harness.select._forms import FORMS, Form, Formula, Variant, instruction_of
from harness.select._spans import (
    Asked,
    Pair,
    Span,
    after,
    as_released,
    in_chat,
    longest,
    mean,
    mended,
    no_prompt,
    opening,
)

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

CHAT_LENGTH = 2048
LARGEST = 700.0
"""Nats: `exp` of more is no longer a number."""
ASK = "What was asked, if this is the answer?\n{answer}"
"""The way back from an answer to its instruction, in our own words."""
NO_ANSWER, NO_ROOM, TOO_LONG = "no answer", "no room for the answer", "longer than the model's context"
NO_RATIO = "no ratio by the released rule"
NONE_ALONE = "no token to score without what goes before it"
"""A text of one token with nothing before it (`superfiltering` without BOS), or one that its prompt leaves no room."""
MERGED = "no token of its own after the prompt by the released rule"
"""Prompt and text are tokenised as one, and have no more tokens than the prompt alone: they merge at their border."""

Part = Literal["ca", "da", "cq", "dq", "prompt"]
"""Mean loss of the answer given the prompt and alone, of the instruction given the answer and alone, of the prompt."""


@dataclass(frozen=True)
class Losses:
    """Mean losses of one row in nats per token; None where there is none, and `why` not."""

    values: dict[Part, float | None] = field(default_factory=dict)
    comparable: bool = True
    """False where the released rule does not compare this row's `ca` and `da`."""
    why: str | None = None

    def __getitem__(self, part: Part) -> float | None:
        return self.values.get(part)

    def compared(self, formula: Formula, given: Part, alone: Part) -> float | None:
        """The quotient of two losses, or of their perplexities."""
        one, other = self[given], self[alone]
        if one is None or other is None or (given == "ca" and not self.comparable):
            return None
        if formula == "perplexity":
            return math.exp(min(one - other, LARGEST))
        return one / other if other > 0 else None


@dataclass(frozen=True)
class Spans:
    """What is asked for one row, and why nothing is."""

    parts: dict[Part, Span | None] = field(default_factory=dict)
    comparable: bool = True
    why: str | None = None


class LossScorer(Scorer):
    """Base of the scores that are made of losses. Subclasses name their parts and columns."""

    model: ModelRole = identity("student", description="The model whose losses are compared.")
    variant: Variant = identity(
        "chat",
        description="Whose prompt and formula.",
        source="released scripts of 2308.12032 and 2402.00530; chat: ours",
    )
    max_length: Count | None = identity(
        None,
        description="Tokens of prompt and answer; longer rows lose the end of their answer. By default the variant's "
        f"own: {CHAT_LENGTH} for chat, 512 for Cherry, 1024 for Superfiltering. Never more than the model's context.",
        unit="tokens",
    )
    as_released: bool = identity(True, description="Reproduce the released token counts; `chat` has none to reproduce.")

    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """The losses that the columns are made of."""

    @abstractmethod
    def values(self, losses: Losses) -> tuple[float | str | None, ...]:
        """One value per column."""

    def form(self) -> Form | None:
        """The released form of these options; None for `chat`."""
        return FORMS.get(self.variant)

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Losses of given texts."""
        return {"model": frozenset({"logprobs"})}

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Asks for all spans of all rows at once, so an engine can sort them by length; equal ones once."""
        spans = self._spans(context.chats[self.model], batch)
        wanted = {span: None for row in spans for span in row.parts.values() if span is not None}
        replies = dict(zip(wanted, (yield Tolerant(span.ask(self.model) for span in wanted)), strict=True))
        rows = [self.values(_losses(row, replies)) for row in spans]
        return {name: [row[index] for row in rows] for index, name in enumerate(self.columns())}

    def _spans(self, chat: ChatFormat, batch: Sequence[Example]) -> list[Spans]:
        """Answers first, then the way back, each only if a column needs it."""
        if self.parts() == ("prompt",):
            return [Spans({"prompt": span}, why=None if span else NO_ROOM) for span in self._prompts(chat, batch)]
        places = [place for place, row in enumerate(batch) if row.answer]
        rows = [batch[place] for place in places]
        forth = self._pairs(chat, rows) if {"ca", "da"} & {*self.parts()} else None
        back = self._back(chat, rows) if {"cq", "dq"} & {*self.parts()} else None
        found = [Spans(why=NO_ANSWER)] * len(batch)
        for index, place in enumerate(places):
            found[place] = self._asked(forth[index] if forth else _UNASKED, back[index] if back else _UNASKED)
        return found

    def _asked(self, forth: Pair, back: Pair) -> Spans:
        every: dict[Part, Span | None] = {"ca": forth.given, "da": forth.alone, "cq": back.given, "dq": back.alone}
        parts = {part: every[part] for part in self.parts()}
        why = None if forth.comparable else NO_RATIO
        if None in parts.values():
            alone = [part for part, span in parts.items() if span is None]
            merged = ("ca" in alone and forth.merged) or ("cq" in alone and back.merged)
            why = NONE_ALONE if {*alone} <= {"da", "dq"} else MERGED if merged else NO_ROOM
        return Spans(parts, forth.comparable, why)

    def _prompts(self, chat: ChatFormat, rows: Sequence[Example]) -> list[Span | None]:
        """Prompts as the variant writes them, ready for an answer, with nothing before them."""
        form = self.form()
        length = longest(chat, self.max_length or (form.max_length if form else CHAT_LENGTH))
        if form is None:
            ids = [chat.render(row.prompt, add_generation_prompt=True) for row in rows]
        else:
            ids = chat.encode_all([form.prompt(*instruction_of(row)) for row in rows], special=True)
        return [after((), one, length) for one in ids]

    def _pairs(self, chat: ChatFormat, rows: Sequence[Example]) -> list[Pair]:
        form = self.form()
        if form is not None:
            return self._formed(chat, form, [(*instruction_of(row), row.answer or "") for row in rows])
        heads = [chat.render(row.prompt, add_generation_prompt=True) for row in rows]
        return self._chatted(chat, heads, [row.answer or "" for row in rows], self._bare(chat))

    def _bare(self, chat: ChatFormat) -> tuple[int, ...]:
        """What stands before a direct answer under `chat`."""
        return no_prompt(chat)

    def _back(self, chat: ChatFormat, rows: Sequence[Example]) -> list[Pair]:
        """The instruction after its answer, which a user's turn shows, and with nothing before it."""
        form = self.form()
        if form is not None:
            asked = [(self._ask(row), "", "".join(instruction_of(row))) for row in rows]
            return self._formed(chat, form.headless(), asked)
        turns = [(Message(role="user", content=self._ask(row)),) for row in rows]
        heads = [chat.render(turn, add_generation_prompt=True) for turn in turns]
        return self._chatted(chat, heads, [prompt_text(row) for row in rows], opening(chat))

    def _ask(self, row: Example) -> str:
        return ASK.replace("{answer}", row.answer or "")

    def _formed(self, chat: ChatFormat, form: Form, asked: Sequence[Asked]) -> list[Pair]:
        build = as_released if self.as_released else mended
        return build(chat, form, asked, longest(chat, self.max_length or form.max_length))

    def _chatted(
        self, chat: ChatFormat, heads: Sequence[tuple[int, ...]], texts: Sequence[str], bare: tuple[int, ...]
    ) -> list[Pair]:
        length = longest(chat, self.max_length or CHAT_LENGTH)
        tokens = chat.encode_all(texts)
        return [in_chat(head, ids, length, bare) for head, ids in zip(heads, tokens, strict=True)]


_UNASKED = Pair(None, None)


def refusal(error: Exception) -> str:
    """Why a text was not scored: one reason for all lengths, and what was said of anything else (a foreign id, say)."""
    return TOO_LONG if "context" in str(error) else f"refused: {error}"


def _losses(row: Spans, replies: dict[Span, Reply]) -> Losses:
    values: dict[Part, float | None] = {}
    why = row.why
    for part, span in row.parts.items():
        reply = None if span is None else replies[span]
        if isinstance(reply, Exception):
            why, reply = refusal(reply), None
        values[part] = None if reply is None else -mean(reply)
    return Losses(values, row.comparable, why)
