"""A model so small that a fine-tuning takes a fraction of a second."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tuning import examples

from harness.blocks.kinds import TrainContext

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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
    """A context by name, with folders of that name in the test's own folder."""

    def make(name: str = "run", **more: Any) -> TrainContext:
        folder = tmp_path / name
        (folder / "work").mkdir(parents=True, exist_ok=True)
        given: dict[str, Any] = {"start": base, "out": folder / "model", "work": folder / "work", "seed": 0}
        return TrainContext(**given | more)

    return make
