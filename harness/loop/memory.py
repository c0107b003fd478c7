"""What a stage took of memory, and its return: of the CUDA devices where they are used, else of its worker process."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # proc(5): resets the peak resident set size to the current one


def forget_peak() -> None:
    """Begins a new measurement."""
    with suppress(OSError):
        _REFS.write_text(_FORGET_PEAK)
    if (cuda := _cuda()) is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def peak() -> int | None:
    """Bytes since `forget_peak`; None where the system does not tell."""
    if (cuda := _cuda()) is not None and (used := sum(map(cuda.max_memory_reserved, range(cuda.device_count())))):
        return int(used)
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return None


def give_back() -> None:
    """Hands what a stage no longer uses back to the system.

    Models and optimizers hang in circles of references, and glibc keeps freed pages in the arenas of each thread: a
    worker would stay as large as its largest moments happened to lie. What PyTorch keeps of a GPU for itself would be
    lacking to a vLLM process that is opened next.
    """
    gc.collect()
    if (cuda := _cuda()) is not None:
        cuda.empty_cache()
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Any:
    """The function malloc_trim(3) of glibc; None with another C library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


def _cuda() -> Any:
    """PyTorch's CUDA module where it is in use; asking does not start it."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None
