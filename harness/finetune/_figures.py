"""How fast a training was, for what the device can do, and how much memory it took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.finetune._setup import Opened

_WIDTH = {"cuda": 8192, "cpu": 512}
_REPEATS = 5
_GIB = 2**30


def reset_peak(device: Any) -> None:
    """From here on, `peak_gib` counts anew."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # Linux forgets a process's peak when 5 is written here
        Path("/proc/self/clear_refs").write_text("5")


def peak_gib(device: Any) -> float:
    """Peak memory in GiB: allocated by torch on a CUDA device, else resident of this process."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / _GIB
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / _GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB


def speed(
    opened: Opened, lengths: Sequence[int], tokens: int, trained: int, seconds: float, precision: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Figures of a training, and what they are measured by.

    Args:
        opened: the model and its device.
        lengths: tokens of each sequence that is read, for the work of attention.
        tokens: tokens that were trained on in `seconds`, by all devices; `trained`: those with a loss.
        seconds: wall time of the optimizer steps and checkpoints.
        precision: what the arithmetic ran in.

    Returns:
        `tokens_per_second` and `trained_tokens_per_second`; `flops_per_token` and `mfu`, the model's own arithmetic
        (recomputed activations and padding not counted, the vocabulary at tokens with a loss only) as a share of the
        device's peak; `peak_memory_gib`.
    """
    figures = {"peak_memory_gib": peak_gib(opened.device)}
    if not tokens or seconds <= 0:
        return figures, {}
    peak, by = peak_flops(opened.device, precision)
    work = flops_per_token(opened.model, lengths, trained / tokens) * (2 / 3 if opened.block.lora is not None else 1)
    figures |= {
        "tokens_per_second": tokens / seconds,
        "trained_tokens_per_second": trained / seconds,
        "flops_per_token": work,
        "mfu": work * tokens / seconds / (peak * opened.here.size),
    }
    return figures, {"peak": by}


def flops_per_token(model: Any, lengths: Sequence[int], scored: float = 1.0) -> float:
    """Floating-point operations per training token, forward and backward, each token attending to those before it.

    Six for each weight that a token is multiplied with, counted from the model's own layers (a configuration does not
    tell whether a feed-forward part has two matrices or three), and twelve for each number of a query and each token
    that it attends to: half the mean length of sequences, weighted by tokens. Adapters are not counted, of experts only
    those that a token is sent to, and the vocabulary at a share of `scored`: tokens with a loss, as trainings do.
    """
    head = model.get_output_embeddings()
    spared = getattr(head, "in_features", 0) * getattr(head, "out_features", 0)
    attended = sum(n * n for n in lengths) / max(1, sum(lengths)) / 2
    return float(6 * (_multiplied(model) - (1 - scored) * spared) + 12 * _attending(model.config) * attended)


def _multiplied(model: Any) -> float:
    """Weights that each token is multiplied with."""
    import torch

    config, total = model.config.get_text_config(), 0.0
    chosen = getattr(config, "num_experts_per_tok", None) or 1
    for name, module in model.named_modules():
        if "lora_" in name or isinstance(module, torch.nn.Embedding):
            continue
        if isinstance(module, torch.nn.Linear):  # by its sizes: quantised weights have other shapes
            total += module.in_features * module.out_features
            continue
        for weights in module.parameters(recurse=False):
            if weights.ndim == 2:
                total += weights.numel()
            elif weights.ndim == 3:  # those of all experts
                total += weights.numel() * chosen / weights.shape[0]
    return total


def _attending(config: Any) -> int:
    """Numbers of a token's query, in all layers."""
    config = config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 0
    each = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
    return int((getattr(config, "num_hidden_layers", None) or 0) * heads * each)


def peak_flops(device: Any, precision: str) -> tuple[float, str]:
    """What a device can do per second, and where that is from: TRL's table of GPUs, else a measured matrix product."""
    import torch
    from trl.trainer.utils import get_peak_flops

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = get_peak_flops(name, precision)
        if known is not None:
            return float(known), f"{known / 1e12:,.0f} TFLOP/s, as stated for {name} in {precision}"
    measured: float = _measured(str(device), precision, torch.get_num_threads())
    return measured, f"{measured / 1e9:,.0f} GFLOP/s, a matrix product measured here in {precision}"


@cache
def _measured(device: str, precision: str, threads: int) -> float:
    """Operations per second of a square matrix product, the best of a few."""
    import torch

    width = _WIDTH.get(device.partition(":")[0], 512)
    one = torch.ones(width, width, dtype=getattr(torch, precision), device=device)
    best = float("inf")
    for _ in range(_REPEATS):
        _wait(device)
        began = time.perf_counter()
        torch.mm(one, one)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2.0 * width**3 / best


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Four significant digits: more would pretend."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}
