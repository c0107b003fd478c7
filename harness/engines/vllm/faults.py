"""Why a vLLM process failed, and what to do: one paragraph each, for what vLLM says in a hundred lines."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Any

from harness.engines.vllm.messages import Failed
from harness.errors import LoopbenchError, Transient, UserError

_SHOWN = 12
"""Lines of what vLLM said that are shown where nothing better is known."""
_LESS = (
    "Lower `gpu_memory_utilization`, `max_model_len` or `max_num_seqs` under the model's `options:`, give "
    "`quantization`, or end what else uses the device"
)
_ABSENT = "vLLM is not installed, or was built for another machine. docs/engines.md says how to install it"
_SHORT = (
    "The key/value cache has no room for one sequence of full length. Lower `max_model_len`, or raise "
    "`kv_cache_memory_bytes` or `gpu_memory_utilization`, under the model's `options:`"
)
_MEMORY = (
    "There is too little free main memory. Lower `kv_cache_memory_bytes` under the model's `options:`, or end what "
    "else uses the memory"
)
_DEVICE = f"The model does not fit into the memory of the device. {_LESS}"
_UNKNOWN = "vLLM does not know this architecture. Write `engine: transformers` for this model"
_FORMAT = "The device (or the quantisation) cannot use this number format. Write another `dtype:` for this model"
_PARALLEL = (
    "The parallel sizes do not fit the devices or the model. Correct `tensor_parallel_size` and "
    "`pipeline_parallel_size` under the model's `options:` (heads must divide, and a worker needs so many devices)"
)
_LONG = "`max_model_len` is longer than the model's context. Lower it under the model's `options:`"
_LORA = "vLLM cannot serve this LoRA adapter. Write `engine: transformers`, which merges it into its base"
_KNOWN: tuple[tuple[str, str], ...] = (
    (r"No module named 'vllm'|libcud\w+\.so", _ABSENT),
    (r"larger than the available KV cache memory|one request with the model", _SHORT),
    (r"Available memory on node|less than requested memory for kv", _MEMORY),
    (r"[Ff]ree memory on device|No available memory for the cache blocks", _DEVICE),
    (r"[Oo]ut of memory|OutOfMemoryError|Cannot allocate memory|can't allocate memory", _DEVICE),
    (r"[Mm]odel architectures? .* (?:are|is) not supported|no vLLM implementation|Cannot find model module", _UNKNOWN),
    (r"[Bb]float16 is only supported|not supported for quantization|Unknown dtype|dtype .* not supported", _FORMAT),
    (r"larger than the number of available GPUs|divisible by tensor.parallel.size", _PARALLEL),
    (r"greater than the derived max_model_len", _LONG),
    (r"LoRA rank|unexpected modules|target modules in|does not support LoRA|Loading lora", _LORA),
)
_TRANSIENT = re.compile(r"out of memory|OutOfMemoryError|EngineDeadError|Address already in use", re.IGNORECASE)
_NOISE = re.compile(r"^(?:\(\w+ pid=\d+\)\s*)?(?:INFO|WARNING|DEBUG)\b|^\s*$|^Loading safetensors")


def explained(name: str, failed: Failed, text: str, arguments: Mapping[str, Any]) -> LoopbenchError:
    """The error to raise for what a process told: a mistake of the settings, or worth another try.

    Args:
        name: the model, as messages name it.
        failed: what the process told.
        text: that, and what vLLM printed before.
        arguments: what it was started with.
    """
    if "EngineDeadError" in failed.error and failed.when == "work":
        return Transient(died(name, None, text))
    what = "could not be opened with vLLM" if failed.when == "open" else "failed in vLLM"
    first = failed.error.strip().split("\n")[0]
    # Its warnings are no reasons: one about the place that we add to the context is printed at every start.
    meant = "\n".join([failed.error, *(line for line in text.splitlines() if not _NOISE.search(line))])
    advice = next((said for pattern, said in _KNOWN if re.search(pattern, meant)), "")
    told = f"the model {name} {what}: {first}."
    if not advice:
        told += f" It was started with {_settings(arguments)}. The last that it said:\n{last_lines(text)}"
    else:
        told += f" {advice}."
    kind = Transient if failed.when == "work" and _TRANSIENT.search(text) else UserError
    return kind(told)


def died(name: str, code: int | None, said: str) -> str:
    """What to say of a process that ended without a word; without a code, the core that it started did."""
    how = "its core died" if code is None else f"exit code {code}"
    if code is not None and code < 0:
        how = f"killed by {signal.Signals(-code).name}"
    memory = (
        " If the system ended it for want of memory, lower `kv_cache_memory_bytes`, `gpu_memory_utilization` or "
        "`max_num_seqs` under the model's `options:`."
        if code in (-signal.SIGKILL, None)
        else ""
    )
    lines = "" if code in (-signal.SIGKILL, None) else last_lines(said, 4)
    end = f" The last that it said:\n{lines}" if lines else ""
    kept = "finished rows are kept, the rest is asked anew"
    return f"the vLLM process of the model {name} ended ({how}); {kept}.{memory}{end}"


def last_lines(text: str, count: int = _SHOWN) -> str:
    """The last lines that are no progress report."""
    lines = [line.rstrip() for line in text.splitlines() if not _NOISE.search(line)]
    return "\n".join(f"  {line[:300]}" for line in lines[-count:])


def _settings(arguments: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value}" for name, value in sorted(arguments.items()) if name not in ("model", "tokenizer")
    )
