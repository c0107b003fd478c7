"""How large a model is, and what working with it takes of memory and arithmetic, from its config.json alone.

Rules, not measurements: 2 N floating-point operations per token read or written and 6 N per token trained
(arXiv 2001.08361 §2.1), for N parameters; attention over long sequences and a large vocabulary's logits come besides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.base import ModelSpec

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
OPERATIONS = {"generate": 2, "score": 2, "train": 6}
"""Floating-point operations per parameter and token."""
LIBRARIES = 500 * 2**20
"""Bytes that a worker takes before any model: measured with torch, transformers and TRL imported."""
ROWS, TOKENS = 128, 2048
"""Rows decoded at once and padded tokens of one forward pass, by the transformers engine's limits on a CPU."""
KEPT_PER_LAYER = 18
"""Numbers of the model's width that a layer keeps per token for the backward pass; attention recomputes its own."""


@dataclass(frozen=True)
class Sizes:
    """The numbers of a decoder; `parameters` counts embeddings once where they are tied."""

    parameters: int
    layers: int
    hidden: int
    vocab: int
    cached: int
    """Numbers per token in the key/value cache, over all layers."""
    bytes: int = 4
    """Of one weight as it is loaded."""

    def generating(self, length: int, rows: int = ROWS) -> int:
        """Bytes of an engine that writes `rows` answers at once, each up to `length` tokens with its prompt."""
        cache = rows * length * self.cached * self.bytes
        return self.parameters * self.bytes + cache + rows * self.vocab * 8 + TOKENS * self.hidden * 12 * self.bytes

    def scoring(self, length: int) -> int:
        """Bytes of an engine that reads sequences: no cache stays, and logits are made where they are scored."""
        tokens = max(TOKENS, length)
        return self.parameters * self.bytes + tokens * self.hidden * 16 * self.bytes + 2**24 * 4

    def training(self, tokens: int, *, adapters: bool = False, recompute: bool = False) -> int:
        """Bytes of a training: weights, gradients, Adam's two moments, and what a batch of `tokens` keeps."""
        states = 0 if adapters else self.parameters * (self.bytes + 8)
        per_layer = 2 if recompute else KEPT_PER_LAYER + 2 * self.vocab // max(1, self.hidden * self.layers)
        kept = tokens * self.hidden * self.layers * per_layer * self.bytes
        return self.parameters * self.bytes + states + kept + tokens * self.vocab * 4 * 2


def sizes_of(spec: ModelSpec) -> Sizes | None:
    """Of a model folder; None where its config.json does not tell (an encoder's may), or there is no folder."""
    if spec.path is None or not (spec.path / "config.json").is_file():
        return None
    try:
        config = json.loads((spec.path / "config.json").read_text())
        return from_config(config.get("text_config") or config, spec.dtype, _stored(spec.path, config))
    except (KeyError, ValueError, TypeError, OSError):
        return None


def from_config(config: Mapping[str, Any], dtype: str = "auto", stored: int | None = None) -> Sizes:
    """From the fields of a config.json; `stored` is the number of parameters, where the weights were counted.

    Raises:
        KeyError: a size that it does not name.
    """
    hidden, layers, vocab = _first(config, "hidden_size", "n_embd"), _first(config, *_LAYERS), int(config["vocab_size"])
    heads = _first(config, "num_attention_heads", "n_head")
    width = int(config.get("head_dim") or hidden // heads)
    groups = int(config.get("num_key_value_heads") or heads)
    inner = int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    gates = 3 if config.get("hidden_act") in ("silu", "gelu_pytorch_tanh") else 2
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 1)
    layer = hidden * width * (2 * heads + 2 * groups) + gates * hidden * inner * experts
    embedded = vocab * hidden * (1 if config.get("tie_word_embeddings", True) else 2)
    name = config.get("dtype") or config.get("torch_dtype") if dtype == "auto" else dtype
    found = layers * layer + embedded
    return Sizes(stored or found, layers, hidden, vocab, 2 * layers * groups * width, BYTES.get(str(name), 4))


_LAYERS = ("num_hidden_layers", "n_layer")


def _first(config: Mapping[str, Any], *names: str) -> int:
    return int(next(config[name] for name in (*names, names[0]) if name in config or name == names[-1]))


def _stored(folder: Path, config: Mapping[str, Any]) -> int | None:
    """Parameters, by the bytes of the weight files; None where there are none."""
    total = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    each = BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4)
    return total // each or None
