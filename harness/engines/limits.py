"""How much a device may hold at once, and what to do when it was too much."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from harness.errors import UserError

log = logging.getLogger(__name__)

CPU_STORE_BYTES = 512 * 2**20
GPU_STORE_SHARE = 0.6
"""Share of the GPU memory that the weights leave over."""
CPU_STATES = 2**19
"""Numbers that a hidden state of a whole batch may have on a CPU: more leave its cache, and every layer waits for them.
Measured with GPT-2's shape on one thread (`benchmarks/ifd_speed.py`); models of pocket size reach the upper bound."""
CPU_TOKENS = (256, 2048)
PASS_TOKENS = {"cpu": 40, "cuda": 1024}
"""What a forward pass costs beside its tokens, in tokens. CPU: from the time of matrix products of 40 to 660 rows."""
SPARE = 128
"""Columns of keys and values that are allocated beyond need, so that they are rarely moved; on a GPU at once."""
OPTIONS = ("batch_rows", "batch_tokens", "store_mib")
_SAID = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")


@dataclass(frozen=True)
class Limits:
    """Sizes of the batches; a matter of speed and memory, never of what is computed beyond rounding.

    rows: rows that are decoded at once. tokens: padded tokens of one prefill or scoring batch. columns: tokens that
    the key/value store may hold, over all rows. cells: vocabulary logits that are held at once when scoring. padding:
    tokens of padding that cost as much as one more forward pass, so that a batch takes no more. ahead: columns that the
    store takes for each row beyond its need.
    """

    rows: int
    tokens: int
    columns: int
    cells: int
    padding: int = 0
    ahead: int = 0

    @classmethod
    def of(cls, model: Any, options: Mapping[str, Any]) -> Limits:
        """Defaults for a model on its device; the options `batch_rows`, `batch_tokens` and `store_mib` replace them.

        Raises:
            UserError: an option that is unknown or not a positive whole number.
        """
        _check(options)
        gpu = model.device.type == "cuda"
        store = int(options["store_mib"]) * 2**20 if "store_mib" in options else _store_bytes(model)
        return cls(
            rows=int(options.get("batch_rows", 256 if gpu else 128)),
            tokens=int(options.get("batch_tokens", 16384 if gpu else _cpu_tokens(model))),
            columns=max(1, store // _bytes_per_token(model)),
            cells=2**26 if gpu else 2**24,
            padding=PASS_TOKENS["cuda" if gpu else "cpu"],
            ahead=SPARE if gpu else 0,
        )

    @property
    def spared(self) -> int:
        """Tokens from which on it is worth a pass to read what rows begin with only once."""
        return 2 * self.padding

    def rows_for(self, need: int) -> int:
        """Rows that fit when the longest needs this many tokens."""
        return max(1, min(self.rows, self.columns // max(1, need + self.ahead)))

    def batch(self, lengths: Sequence[int]) -> int:
        """How many of these sequences, the longest first, are read at once: at least one.

        A batch ends where one more would exceed `tokens`, or where the padding would cost more than another pass.
        """
        longest, padding, count = lengths[0], 0, 1
        for length in islice(lengths, 1, None):
            padding += longest - length
            if (count + 1) * longest > self.tokens or padding > self.padding:
                break
            count += 1
        return count

    def halved(self) -> Limits:
        """Half of everything that is held at once, at least one."""
        return replace(
            self, rows=max(1, self.rows // 2), tokens=max(1, self.tokens // 2), columns=max(1, self.columns // 2)
        )


@dataclass
class Room:
    """The limits of one open model. Memory that ran out stays so: limits that shrank do, as long as it is open."""

    limits: Limits
    notes: list[str] = field(default_factory=list)
    """What happened that the user should know, until it is taken."""

    def shrink(self, limits: Limits, what: str) -> None:
        """Goes on with less; `what` says what ran out and what comes now."""
        log.warning("%s", what)
        self.limits = limits
        self.notes.append(what)
        release()

    def take(self) -> list[str]:
        """The notes so far; they are told once."""
        notes, self.notes = self.notes, []
        return notes


def out_of_memory(error: BaseException) -> bool:
    """True for the many ways in which PyTorch says that memory is used up."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _SAID)


def release() -> None:
    """Gives GPU memory that is no longer used back to the device; without a GPU there is nothing to do.

    A model that nobody refers to hangs in circles of references, and holds its weights until those are collected.
    """
    import torch

    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _check(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in OPTIONS:
            raise UserError(f"the transformers engine has no option {name!r}; it has {', '.join(OPTIONS)}.")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"the engine option {name} is {value!r}: give a whole number of at least 1.")


def _store_bytes(model: Any) -> int:
    """Decided by the size of the device, not by what is free just now, so that a repeated run has the same batches."""
    if model.device.type != "cuda":
        return CPU_STORE_BYTES
    import torch

    total = torch.cuda.get_device_properties(model.device).total_memory
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return max(CPU_STORE_BYTES, int((0.9 * total - weights) * GPU_STORE_SHARE))


def _cpu_tokens(model: Any) -> int:
    low, high = CPU_TOKENS
    return max(low, min(high, CPU_STATES // int(model.config.get_text_config().hidden_size)))


def _bytes_per_token(model: Any) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)
