"""Models whose weights and rows follow from a formula, so that numbers of other programs can be compared with ours."""

from __future__ import annotations

from typing import Any

VOCABULARY = 300
BETAS = (0.1, 5.0)


def model(phase: float) -> Any:
    """A Llama of two layers in float32; weights are sines of their positions, shifted by `phase`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    made = LlamaForCausalLM(config)
    with torch.no_grad():
        for number, (name, weight) in enumerate(sorted(made.named_parameters())):
            place = torch.arange(weight.numel(), dtype=torch.float64)
            values = torch.sin(place * (0.37 + 0.011 * number) + phase + number)
            scale, shift = (0.1, 1.0) if "norm" in name else (0.25, 0.0)
            weight.copy_((shift + scale * values).reshape(weight.shape).float())
    return made.eval()


def ids(seed: int, length: int) -> list[int]:
    """Token ids, none of them below 5."""
    return [5 + (seed * 37 + at * at * 11 + at * 3) % (VOCABULARY - 5) for at in range(length)]


def rows() -> list[tuple[list[int], list[int], list[int]]]:
    """Prompt, chosen and rejected ids of six pairs of unlike lengths."""
    return [(ids(k, 3 + k), ids(k + 50, 2 + k * 5 % 7), ids(k + 90, 1 + k * 3 % 8)) for k in range(6)]
