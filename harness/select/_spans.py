"""Token ids of an answer after some prefix: what the likelihood scorers ask the engine for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import Score
from harness.records.example import Message

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat
    from harness.select._forms import Form

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """`ids[start:]` is scored, given what stands before it."""

    ids: Ids
    start: int

    @property
    def scored(self) -> int:
        """Tokens that get a log-probability: the first of a sequence has no predecessor."""
        return len(self.ids) - max(self.start, 1)

    def ask(self, model: str) -> Score:
        """The request for this span."""
        return Score(model=model, ids=self.ids, start=self.start)


@dataclass(frozen=True)
class Pair:
    """A text after what conditions it and without that; None where no token of it is left to score.

    `comparable` is False where the released rule gives no ratio although both losses exist. `merged` is True where
    there is room for the text, but the token at which the released rule begins lies behind its end, because text and
    prompt merge at their border.
    """

    given: Span | None
    alone: Span | None
    comparable: bool = True
    merged: bool = False

    @classmethod
    def of(cls, given: Span, alone: Span, comparable: bool = True, merged: bool = False) -> Pair:
        """Both spans, less those that score nothing."""
        return cls(given if given.scored > 0 else None, alone if alone.scored > 0 else None, comparable, merged)


Asked = tuple[str, str, str]
"""Instruction, input and answer."""


def mean(logprobs: Any) -> float:
    """Mean log-probability per token, in nats."""
    return float(logprobs.values.mean(dtype="float64"))


def longest(chat: ChatFormat, wanted: int) -> int:
    """`wanted` tokens, or as many as the model's context holds."""
    return wanted if chat.context is None else min(wanted, chat.context)


def answered(chat: ChatFormat, prompt: Sequence[Message], answer: str, length: int) -> Span | None:
    """The answer after the rendered conversation, cut on the right to `length` tokens; None where none of it is left.

    Prompt and answer are tokenised apart, as a model that generates the answer sees them. The end token is not scored.
    """
    return after(chat.render(prompt, add_generation_prompt=True), chat.encode(answer), length)


def after(head: Ids, tokens: Ids, length: int) -> Span | None:
    """Tokens behind a head, cut to `length` in all; None where none of them is left to score."""
    span = Span((*head, *tokens)[:length], len(head))
    return span if span.scored > 0 else None


def no_prompt(chat: ChatFormat) -> Ids:
    """The model's template with an empty user turn, ready for an answer."""
    return chat.render((Message(role="user", content=""),), add_generation_prompt=True)


def opening(chat: ChatFormat) -> Ids:
    """One token to stand before a text that has nothing before it: BOS, else EOS, else none."""
    return tuple(token for token in (chat.bos, chat.eos) if token is not None)[:1]


def in_chat(given: Ids, tokens: Ids, length: int, bare: Ids) -> Pair:
    """A text after its conversation `given`, and the same tokens of it after `bare`."""
    conditioned = after(given, tokens, length)
    if conditioned is None:
        return Pair(None, None)
    return Pair.of(conditioned, Span(bare + conditioned.ids[conditioned.start :], len(bare)))


def as_released(chat: ChatFormat, form: Form, rows: Sequence[Asked], length: int) -> list[Pair]:
    """Spans of the released IFD code, token by token, its quirks included (2308.12032, 2402.00530).

    The text of prompt and answer is tokenised as one, the answer's start is the token count of the prompt alone, and
    the direct text gets `length - prompt + form.direct_tokens` tokens. Every text is tokenised once, all in one call.
    """
    prompts = [form.prompt(instruction, input_) for instruction, input_, _ in rows]
    answers = [answer for *_, answer in rows]
    texts = [*prompts, *map(str.__add__, prompts, answers), *(form.direct + answer for answer in answers), form.direct]
    bare = [instruction for instruction, *_ in rows] if form.bare_length else []
    ids = iter(chat.encode_all([*texts, *bare], special=True))
    heads, wholes, alone = ([next(ids) for _ in rows] for _ in range(3))
    start = len(next(ids))
    measured = list(ids) or heads
    result = []
    for head, whole, direct, used in zip(heads, wholes, alone, measured, strict=True):
        taken = min(len(used), length)
        span = Span(direct[: length - taken + form.direct_tokens], start)
        fits = not form.strict or taken + len(span.ids) - start <= length
        merged = len(whole) <= len(head) < length
        result.append(Pair.of(Span(whole[:length], len(head)), span, fits, merged))
    return result


def mended(chat: ChatFormat, form: Form, rows: Sequence[Asked], length: int) -> list[Pair]:
    """The same forms without the quirks: exactly the same answer tokens in both spans, each with a predecessor."""
    heads = chat.encode_all([form.direct, *(form.prompt(row[0], row[1]) for row in rows)], special=True)
    bare = heads[0] or opening(chat)
    answers = chat.encode_all([answer for *_, answer in rows])
    result = []
    for head, answer in zip(heads[1:], answers, strict=True):
        tokens = answer[: max(0, length - len(head))]
        enough = bool(tokens) and (bool(bare) or len(tokens) > 1)
        result.append(Pair.of(Span(head + tokens, len(head)), Span(bare + tokens, len(bare))) if enough else _NOTHING)
    return result


_NOTHING = Pair(None, None)
