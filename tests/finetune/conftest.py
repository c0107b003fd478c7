"""A model so small that a fine-tuning takes a tenth of a second, and conversations for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from harness.blocks.kinds import TrainContext
from harness.records.example import Example, Message

WORDS = "red green blue seven eight nine apple pear plum sings runs sleeps under over beside the a one".split()


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def example(index: int, words: int = 6, **more: Any) -> Example:
    """A question with an answer whose length varies with the index."""
    asked = " ".join(WORDS[(index * 3 + k) % len(WORDS)] for k in range(3 + index % 5))
    answered = " ".join(WORDS[(index * 7 + k) % len(WORDS)] for k in range(1 + (index * 5) % words))
    messages = (turn("user", f"Say {asked}?"), turn("assistant", f"It {answered}."))
    return Example(id=f"row/{index}", messages=messages, **more)


def examples(count: int, **more: Any) -> list[Example]:
    return [example(index, **more) for index in range(count)]


def pairs(count: int) -> list[Example]:
    return [example(index, rejected=f"No {WORDS[index % len(WORDS)]} idea.") for index in range(count)]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 30,000 parameters with a byte-level tokenizer."""
    from harness.engines.scratch import build

    folder = tmp_path_factory.mktemp("base") / "model"
    texts = [message["content"] for row in examples(50) for message in row.messages]
    build(folder, hidden=32, layers=2, heads=2, vocab=300, seed=0, texts=texts, context=128)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def context(base: Path, tmp_path: Path) -> Callable[..., TrainContext]:
    """A context by name: folders of that name in the test's own folder."""

    def make(name: str = "run", **more: Any) -> TrainContext:
        folder = tmp_path / name
        (folder / "work").mkdir(parents=True, exist_ok=True)
        return TrainContext(**{"start": base, "out": folder / "model", "work": folder / "work", "seed": 0, **more})

    return make


def weights(folder: Path) -> bytes:
    """The bytes of a model's weights."""
    return (folder / "model.safetensors").read_bytes()
