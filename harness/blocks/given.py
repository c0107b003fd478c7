"""What a block is given besides its rows: the loop's context, feedback, and single items of work."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.records.example import Example
from harness.records.hashing import seed_of

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat


@dataclass(frozen=True, kw_only=True)
class Weakness:
    """One category of the last dev evaluation: its mean score, as a share of its suite's best value, over n items."""

    category: str
    score: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What the dev split told: categories from weakest to strongest, and the ids of failed items."""

    categories: tuple[Weakness, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that a block may know beyond its rows."""

    iteration: int = 1
    seed: int = 0
    """The data seed; for a finetune, the training seed."""
    block: str = ""
    feedback: Feedback | None = None
    chats: Mapping[str, ChatFormat] = field(default_factory=dict)
    """Role to the chat format (tokenizer) of the model bound to it."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """The prompt pack of the block's model: entry name to template with {placeholders}."""

    def rng(self, *parts: Any) -> random.Random:
        """A generator of its own for (data seed, block, iteration, parts)."""
        return random.Random(seed_of(self.seed, self.block, self.iteration, *parts))


@dataclass(frozen=True, kw_only=True)
class Item:
    """One unit of a synthesizer's work. `id` is unique in the stage; `row` the example that it starts from, if any."""

    id: str
    row: Example | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
