"""Conversations and pairs for fine-tuning tests, and what the tests compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.records.example import Example, Message

WORDS = "red green blue seven eight nine apple pear plum sings runs sleeps under over beside the a one".split()


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def example(index: int, **more: Any) -> Example:
    """A question with an answer; both lengths vary with the index."""
    asked = " ".join(WORDS[(index * 3 + k) % len(WORDS)] for k in range(3 + index % 5))
    answered = " ".join(WORDS[(index * 7 + k) % len(WORDS)] for k in range(1 + index * 5 % 6))
    messages = (turn("user", f"Say {asked}?"), turn("assistant", f"It {answered}."))
    return Example(id=f"row/{index}", messages=messages, **more)


def examples(count: int, **more: Any) -> list[Example]:
    return [example(index, **more) for index in range(count)]


def pairs(count: int) -> list[Example]:
    return [example(index, rejected=f"No {WORDS[index % len(WORDS)]} idea.") for index in range(count)]


def weights(folder: Path) -> bytes:
    """The bytes of a model's weights."""
    return (folder / "model.safetensors").read_bytes()
