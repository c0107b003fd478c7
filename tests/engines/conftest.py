"""Tiny models with random weights, sharpened so that a wrong position or mask changes what they write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.engines import scratch
from harness.engines.base import GenerateRequest, ModelSpec, Sampling
from harness.engines.sampling import entries, gumbel, row_key, step_keys
from harness.engines.transformers import TransformersEngine

SHARP = 6.0
TEXTS = ["def words(text):\n    return text.split()\n", "The quick brown fox jumps over 12 lazy dogs."] * 20
Opener = Callable[..., TransformersEngine]
Requests = Callable[..., list[GenerateRequest]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharpened Llama of two layers, with a context of 128 tokens."""
    folder = tmp_path_factory.mktemp("tiny")
    scratch.build(folder, hidden=64, layers=2, heads=4, vocab=320, seed=0, texts=TEXTS, context=128)
    sharpen(folder)
    return folder


def sharpen(folder: Path) -> None:
    """Scales the weights of a saved model up, so that its distributions are far from flat."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= SHARP
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def opener(tiny: Path) -> Opener:
    """Opens the tiny model (or another folder) with engine options."""

    def open_it(folder: Path = tiny, dtype: str = "float32", **options: int) -> TransformersEngine:
        return TransformersEngine(ModelSpec(name="tiny", path=folder, dtype=dtype, device="cpu", options=options))

    return open_it


@pytest.fixture(scope="session")
def engine(opener: Opener) -> TransformersEngine:
    return opener()


@pytest.fixture(scope="session")
def requests() -> Requests:
    """Requests with random prompts of mixed lengths; the same arguments give the same requests."""

    def make(count: int, **sampling: Any) -> list[GenerateRequest]:
        rng = np.random.default_rng(count)
        limits = rng.integers(1, 40, count).tolist()
        return [
            GenerateRequest(
                id=f"r{at}",
                prompt=tuple(rng.integers(10, 260, rng.integers(1, 40)).tolist()),
                sampling=Sampling(**{"max_tokens": limits[at], "temperature": 1.0} | sampling),
                seed=int(rng.integers(2**62)),
            )
            for at in range(count)
        ]

    return make


def plain_scores(model: Any, ids: Sequence[int], request: GenerateRequest, draw: int, step: int) -> Any:
    """What is maximised for the next token, by one plain forward over one row: the definition, spelled out."""
    import torch

    sampling = request.sampling
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(ids)])).logits[0, -1].float()
    logits = logits.clone()
    for index, value in sampling.logit_bias.items():
        logits[index] += value
    if step == 0:
        logits[list(sampling.first_bans)] = float("-inf")
    heat = sampling.temperature
    if step == 0 and sampling.first_temperature is not None:
        heat = sampling.first_temperature
    if heat == 0:
        return logits
    logits = logits / heat
    if sampling.top_p < 1:
        shares = logits.softmax(-1)
        above = (shares[None, :] * (shares[None, :] > shares[:, None])).sum(-1)
        logits = logits.masked_fill(above >= sampling.top_p, float("-inf"))
    words = torch.from_numpy(step_keys(np.asarray([row_key(request.seed, draw)], dtype=np.uint64), np.asarray([step])))
    return logits + gumbel(words, entries(len(logits), "cpu"))[0]


def first_gap(model: Any, request: GenerateRequest, draw: int, got: Sequence[int]) -> float | None:
    """None where the plain definition writes the same tokens; else the gap of scores at the first difference."""
    ids = list(request.prompt)
    for step, token in enumerate(got):
        scores = plain_scores(model, ids, request, draw, step)
        if int(scores.argmax()) != token:
            return float(scores.max() - scores[token])
        ids.append(token)
    return None
