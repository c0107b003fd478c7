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


Pair = tuple[Span, Span]
"""The answer after its prompt (conditioned), and without it (direct)."""


def mean(logprobs: Any) -> float:
    """Mean log-probability per token, in nats."""
    return float(logprobs.values.mean(dtype="float64"))


def longest(chat: ChatFormat, wanted: int) -> int:
    """`wanted` tokens, or as many as the tokenizer says that its model takes."""
    return min(wanted, int(chat.tokenizer.model_max_length))


def answered(chat: ChatFormat, prompt: Sequence[Message], answer: str, length: int) -> Span | None:
    """The answer after the rendered conversation, cut on the right to `length` tokens; None where none of it is left.

    Prompt and answer are tokenised apart, as a model that generates the answer sees them. The end token is not scored.
    """
    head = chat.render(prompt, add_generation_prompt=True)
    span = Span((*head, *chat.encode(answer))[:length], len(head))
    return span if span.scored > 0 else None


def no_prompt(chat: ChatFormat) -> Ids:
    """The model's template with an empty user turn, ready for an answer."""
    return chat.render((Message(role="user", content=""),), add_generation_prompt=True)


def in_chat(chat: ChatFormat, prompt: Sequence[Message], answer: str, length: int, bare: Ids) -> Pair | None:
    """The answer after its conversation, and after `bare`, which is `no_prompt(chat)`: the same tokens of it."""
    conditioned = answered(chat, prompt, answer, length)
    if conditioned is None:
        return None
    return conditioned, Span(bare + conditioned.ids[conditioned.start :], len(bare))


def as_released(chat: ChatFormat, form: Form, texts: tuple[str, str], answer: str, length: int) -> Pair | None:
    """Spans of the released IFD code, token by token, its quirks included (2308.12032, 2402.00530).

    The text of prompt and answer is tokenised as one, the answer's start is the token count of the prompt alone, and
    the direct text gets `length - prompt + form.direct_tokens` tokens.
    """
    prompt = form.prompt(*texts)
    head = chat.encode(prompt, special=True)
    measured = chat.encode(texts[0], special=True) if form.bare_length else head
    room = length - len(measured[:length]) + form.direct_tokens
    conditioned = Span(chat.encode(prompt + answer, special=True)[:length], len(head))
    direct = Span(chat.encode(form.direct + answer, special=True)[:room], len(chat.encode(form.direct, special=True)))
    return (conditioned, direct) if conditioned.scored > 0 and direct.scored > 0 else None


def mended(chat: ChatFormat, form: Form, texts: tuple[str, str], answer: str, length: int) -> Pair | None:
    """The same forms without the quirks: exactly the same answer tokens in both spans, each with a predecessor."""
    head = chat.encode(form.prompt(*texts), special=True)
    bare = chat.encode(form.direct, special=True)
    if not bare:
        bare = tuple(token for token in (chat.bos, chat.eos) if token is not None)[:1]
    tokens = chat.encode(answer)[: max(0, length - len(head))]
    if not tokens or (not bare and len(tokens) == 1):
        return None
    return Span(head + tokens, len(head)), Span(bare + tokens, len(bare))
