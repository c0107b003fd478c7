"""Shape and storage of the pocket models: Llama architecture, tied embeddings, safetensors."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Shape:
    """Size of a model."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int


SHAPES = {"base": Shape(128, 5, 4, 288), "chat": Shape(128, 8, 4, 320)}


def new_model(name: str, tokenizer: PreTrainedTokenizerFast, layers: int | None = None) -> LlamaForCausalLM:
    """An untrained model with seeded weights; `layers` in place of those of its shape makes one to `grow` from."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = replace(SHAPES[name], layers=layers or SHAPES[name].layers)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def grow(model: LlamaForCausalLM, trained: dict[str, torch.Tensor]) -> None:
    """Give `model` the weights of a shallower one; at first it computes the same.

    The layers that it has more are spread evenly behind those of the trained model. They keep their fresh weights but
    for their output matrices, which are zero: nothing changes until they learn.

    Args:
        model: A fresh model with at least as many layers as `trained`, equal in everything else.
        trained: State of the shallower model.

    Raises:
        ValueError: Where `trained` has no layers or more than `model`.
    """
    layers = model.config.num_hidden_layers
    old = 1 + max((int(name.split(".")[2]) for name in trained if name.startswith("model.layers.")), default=-1)
    if not 0 < old <= layers:
        raise ValueError(f"a model of {layers} layers cannot grow from one of {old}")
    places = {k: k + k * (layers - old) // old for k in range(old)}
    state = model.state_dict()
    for name in state:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            state[name] = state[name].new_zeros(state[name].shape)
    for name, value in trained.items():
        parts = name.split(".")
        if name.startswith("model.layers."):
            parts[2] = str(places[int(parts[2])])
        state[".".join(parts)] = value
    model.load_state_dict(state)


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model folder that `from_pretrained` reads; every file is replaced as a whole."""
    import tempfile

    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            max_new_tokens=96,
            do_sample=False,
        )
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        for file in sorted(Path(scratch).iterdir()):
            os.replace(file, folder / file.name)
