"""What a stage took of memory, and its return: of the CUDA devices where they are used, else of its worker process.

A model that vLLM or a server of our own runs is in processes besides the worker's, which count with it. What those take
of a GPU is not known here: then nothing is told, rather than the worker's part for the whole.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_FORGET_PEAK = "5"  # proc(5): resets the peak resident set size to the current one


def forget_peak(others: Iterable[int] = ()) -> None:
    """Begins a new measurement, also of `others`: processes that models run in, and what those started."""
    for process in ("self", *_families(others)):
        with suppress(OSError):
            (_PROC / str(process) / "clear_refs").write_text(_FORGET_PEAK)
    if (cuda := _cuda()) is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def peak(others: Iterable[int] = (), gpu: bool = False) -> int | None:
    """Bytes since `forget_peak`; None where the system does not tell.

    Args:
        others: processes that models run in besides this one; their peaks, and those of what they started, are added.
        gpu: whether their models are on GPUs.
    """
    others = tuple(others)
    if others and gpu:
        return None
    if (cuda := _cuda()) is not None and (used := sum(map(cuda.max_memory_reserved, range(cuda.device_count())))):
        return int(used)
    own = [_peak(process) for process in ("self", *map(str, others))]
    if None in own:
        return None  # one has died: what it took is not known any more
    started = [_peak(process) for process in set(_families(others)) - set(others)]
    return sum(one for one in (*own, *started) if one is not None)


def _peak(process: int | str) -> int | None:
    """The largest resident size of a process in bytes; None where it is gone, or the system does not tell."""
    with suppress(OSError, ValueError, StopIteration):
        lines = (_PROC / str(process) / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return None


def _families(roots: Iterable[int]) -> Iterator[int]:
    """Processes and all that they started and that still run, each once."""
    import psutil

    for root in dict.fromkeys(roots):
        yield root
        with suppress(psutil.NoSuchProcess):
            yield from (child.pid for child in psutil.Process(root).children(recursive=True))


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
