"""What this machine offers to workers, found without importing torch."""

from __future__ import annotations

import os

from harness.engines.vllm.installed import visible_devices

__all__ = ["cores", "default_workers", "visible_devices"]


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """One worker per CUDA device; without one, one per core, because tiny models run best on one thread each."""
    return len(visible_devices()) or cores()
