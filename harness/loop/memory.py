"""The most memory that a stage took: of the CUDA devices where they are used, else resident in its worker process."""

from __future__ import annotations

import sys
from contextlib import suppress
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


def _cuda() -> Any:
    """PyTorch's CUDA module where it is in use; asking does not start it."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None
