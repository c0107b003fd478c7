"""What the sections of `gpu.py` share: the plan of a run, models of random weights, clocks, ceilings."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FULL = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128_256,
    "max_position_embeddings": 4096,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
}
"""The shape of Llama 3.2 1B: 1.24 billion weights."""
SMALL = FULL | {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 2048,
}
SPECIAL = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")


class NotMeasured(Exception):
    """A figure that cannot be had here; the text says why, and goes into the result in its place."""


@dataclass
class Plan:
    """One run: where, how large, how long, and what its first sections found."""

    device: str
    small: bool
    folder: Path
    deadline: float = 0.0
    """`time.perf_counter()` at which the section under way should be over."""
    peak: float = 0.0
    """bf16 matrix product, FLOP/s, the better of the measurements so far."""
    built: dict[str, Path] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def shape(self) -> dict[str, Any]:
        return SMALL if self.small else FULL

    def left(self) -> float:
        """Seconds that the section under way has left."""
        return self.deadline - time.perf_counter()

    def llama(self) -> Path:
        """A folder with the model in bf16 and a tokenizer, made at the first call."""
        if "llama" not in self.built:
            self.built["llama"] = build_llama(self.folder / "llama", self.shape, self.device)
        return self.built["llama"]

    def engine(self, dtype: str, **options: Any) -> Any:
        """The product's transformers engine on that folder."""
        from harness.engines.base import ModelSpec
        from harness.engines.transformers import TransformersEngine

        spec = ModelSpec(name="random", path=self.llama(), dtype=dtype, device=self.device, options=options)
        return TransformersEngine(spec, threads=1)

    def plain(self, dtype: str) -> Any:
        """The same weights as `transformers` itself loads them."""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(str(self.llama()), dtype=getattr(torch, dtype))
        return model.to(self.device).eval().requires_grad_(False)


def build_llama(folder: Path, shape: Mapping[str, Any], device: str) -> Path:
    """Writes a Llama of random weights (bf16) and a tokenizer of as many entries."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    ends = {"bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1}
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**shape, **ends)).to(torch.bfloat16)
    model.save_pretrained(folder)
    write_tokenizer(folder, int(shape["vocab_size"]))
    return folder


def write_tokenizer(folder: Path, size: int) -> None:
    """A byte-level tokenizer whose entries beyond bytes and special tokens are words that no text is split into.

    Every id can be decoded, a text is encoded as its bytes, and nothing has to be learned or fetched.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [f"Ġword{number}" for number in range(size - len(names))]
    tokenizer = Tokenizer(models.BPE(vocab={name: at for at, name in enumerate(names)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[3], pad_token=SPECIAL[1], model_max_length=4096
    )
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(folder)


# --- clocks -----------------------------------------------------------------------------------------------------------
def sync(device: str) -> None:
    """Waits for the device."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], device: str) -> float:
    """Wall seconds of one call, the device's work included."""
    gc.collect()
    sync(device)
    start = time.perf_counter()
    work()
    sync(device)
    return time.perf_counter() - start


def in_turn(sides: Mapping[str, Callable[[], Any]], plan: Plan, runs: int, warm: int = 1) -> dict[str, list[float]]:
    """Wall seconds of every side, run in turn; fewer runs than asked for where time runs out, but at least one.

    Every other round begins with the other end. Rounds before the first `warm` are not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    longest = 0.0
    for number in range(warm + runs):
        if number > warm and plan.left() < longest:
            break
        start = time.perf_counter()
        for name in list(sides)[:: 1 if number % 2 else -1]:
            took = timed(sides[name], plan.device)
            if number >= warm:
                found[name].append(took)
        longest = max(longest, time.perf_counter() - start)
    return found


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


# --- ceilings ---------------------------------------------------------------------------------------------------------
def copied(plan: Plan) -> dict[str, Any]:
    """Bytes per second of a copy on the device, read and written bytes counted."""
    import torch

    size = 2**20 if plan.small else 2**31
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=plan.device)
    target = torch.empty_like(source)
    if not torch.equal(target.copy_(source), source):
        raise NotMeasured("a copy is not equal to its source")
    runs = [timed(lambda: target.copy_(source), plan.device) for _ in range(13)][3:]
    return {"bytes": size, "runs_s": runs, "bytes_per_s": 2 * size / middle(runs)}


def multiplied(plan: Plan) -> dict[str, Any]:
    """FLOP per second of a square bf16 matrix product of random numbers."""
    import torch

    size, each = (256, 2) if plan.small else (8192, 10)
    one, other = (torch.randn(size, size, dtype=torch.bfloat16, device=plan.device) for _ in range(2))
    out = one @ other
    row = one[0].float() @ other.float()
    worst = float((out[0].float() - row).abs().max() / row.abs().max())
    if worst > 0.02:
        raise NotMeasured(f"a bf16 product differs from its float32 value by {worst:.3f} of the largest")

    def several() -> None:
        for _ in range(each):
            torch.matmul(one, other, out=out)

    runs = [timed(several, plan.device) / each for _ in range(8)][3:]
    rate = 2 * size**3 / middle(runs)
    plan.peak = max(plan.peak, rate)
    return {"size": size, "runs_s": runs, "flop_per_s": rate, "largest_error": worst}


# --- what a model computes --------------------------------------------------------------------------------------------
def flops_per_token(shape: Mapping[str, Any]) -> tuple[float, float]:
    """FLOP of a forward pass per token in the layers' matrices, and per position with logits in the output layer."""
    hidden, wide = int(shape["hidden_size"]), int(shape["intermediate_size"])
    heads = int(shape["num_attention_heads"]) * int(shape["head_dim"])
    pairs = int(shape["num_key_value_heads"]) * int(shape["head_dim"])
    layer = hidden * heads * 2 + hidden * pairs * 2 + 3 * hidden * wide
    return 2.0 * layer * int(shape["num_hidden_layers"]), 2.0 * hidden * int(shape["vocab_size"])


def flops_of_attention(shape: Mapping[str, Any], lengths: Sequence[int]) -> float:
    """FLOP of causal attention over sequences of these lengths: scores and sums, the masked half not counted."""
    width = int(shape["num_attention_heads"]) * int(shape["head_dim"])
    return 4.0 * width * int(shape["num_hidden_layers"]) * sum(n * n / 2 for n in lengths)


def memory(plan: Plan) -> dict[str, float] | None:
    """GiB of the device: what tensors hold now, what PyTorch holds for them, the largest so far; None on the CPU."""
    import torch

    if not plan.cuda:
        return None
    used = {"allocated": torch.cuda.memory_allocated(), "reserved": torch.cuda.memory_reserved()}
    used["largest"] = torch.cuda.max_memory_allocated()
    return {name: round(value / 2**30, 3) for name, value in used.items()}


def release(plan: Plan) -> None:
    """Gives back what is not in use, so that no section pays for the one before it."""
    import torch

    gc.collect()
    if plan.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
