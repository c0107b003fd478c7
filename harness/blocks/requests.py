"""What a block may ask of a model, and what it gets back."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.engines.base import Sampling
from harness.records.example import Drop, Dropped, Example, Message


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Continue a conversation. Reply: a tuple of `sampling.n` completions.

    `speaker` is whose turn is written: `user` samples from the model's own pre-query template (Magpie). With `text`
    set, that raw text is continued instead of a rendered conversation; with `ids` set, those token ids are, and text or
    messages say the same to servers that take no ids. `model` is a role, as in the block's options.
    `draw` tells apart several asks of one item that would otherwise share their random numbers. `fixed_seed`, where
    set, replaces the derived row seed (an evaluation answer's seed comes from suite and item alone).
    """

    model: str
    messages: tuple[Message, ...] = ()
    speaker: Literal["assistant", "user"] = "assistant"
    text: str | None = None
    ids: tuple[int, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    draw: int = 0
    fixed_seed: int | None = None
    fresh: bool = False
    """Never answered from a cache of replies, nor kept in one."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Log-probabilities of `ids[start:]`. Reply: `Logprobs`."""

    model: str
    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True, kw_only=True)
class Embed:
    """The embedding of one text or sequence of ids. Reply: float32 vector, shape (width,).

    A text is cut after `max_tokens` (and at the model's context), by the model's own tokenizer: without special tokens
    for a causal model, with those that it needs for an encoder.
    """

    model: str
    ids: tuple[int, ...] = ()
    text: str | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reward:
    """What a reward model gives a conversation that ends with an answer. Reply: float, higher is better.

    Numbers of two reward models are not comparable, and only differences within one prompt have a meaning.
    """

    model: str
    messages: tuple[Message, ...]


Request = Ask | Score | Embed | Reward
Reply = (
    Any  # tuple[Completion, ...] for Ask, Logprobs for Score, np.ndarray for Embed, float for Reward, in their order
)
Asking = Generator[Sequence[Request], Sequence[Reply], Any]
Made = Sequence[Example | Dropped] | Drop
"""What became of one item."""


class Tolerant(list[Request]):
    """Requests of several rows in one yield: one that fails gets its exception as its reply; nothing is raised."""
