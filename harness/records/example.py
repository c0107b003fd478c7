"""The record that flows through every recipe: one conversation with its provenance and scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypedDict

from harness.records.hashing import texts_sha256

LossOn = Literal["assistant", "all"]


class Message(TypedDict):
    """One turn. `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an example came from: the block, the ids of its parents, the model and prompt version, the iteration."""

    block: str
    parents: tuple[str, ...] = ()
    model: str | None = None
    prompt_version: str | None = None
    iteration: int | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of several answers to the same prompt, with the score that some judge gave it (None: not judged)."""

    text: str
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """One conversation. Change one with `dataclasses.replace`, never in place.

    `id` is unique and stable: source and row, or parent, block and draw. `group` names the prompt that alternatives
    share. `rejected` makes a pair: the worse answer to the prompt that the last assistant message answers. `fields`
    keeps original columns that some methods need (instruction, input, output; `parent_answer` after a rewrite).
    """

    id: str
    messages: tuple[Message, ...]
    group: str = ""
    rejected: str | None = None
    candidates: tuple[Candidate, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    loss_on: LossOn = "assistant"
    weight: float = 1.0
    scores: Mapping[str, float | None] = field(default_factory=dict)
    tags: Mapping[str, str | None] = field(default_factory=dict)
    origin: Origin = field(default_factory=lambda: Origin(block="unknown"))

    @cached_property
    def digest(self) -> str:
        """Hash of the content alone: equal for two examples that would train the same."""
        return texts_sha256([*([m["role"], m["content"]] for m in self.messages), self.rejected, self.loss_on])

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last assistant turn, or all of them where there is no answer."""
        return self.messages[:-1] if self.answer is not None else self.messages

    @property
    def answer(self) -> str | None:
        """The last assistant message, or None where the conversation ends with another role."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            return self.messages[-1]["content"]
        return None


@dataclass(frozen=True)
class Drop:
    """The reason why a row was left out. Short, stable words: reports count rows by it."""

    reason: str


@dataclass(frozen=True)
class Dropped:
    """A row that was left out, with its reason; kept beside the rows that stayed."""

    example: Example
    reason: str


def text_key(text: str) -> bytes:
    """A key of 16 bytes: equal for texts that are the same but for white space and case."""
    return hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=16).digest()


def prompt_text(example: Example) -> str:
    """The prompt's turns as one text, for text-level methods such as near-duplicate search."""
    return "\n".join(m["content"] for m in example.prompt)
