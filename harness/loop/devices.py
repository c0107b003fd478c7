"""What this machine offers to workers, found without importing torch."""

from __future__ import annotations

import os
import re
from pathlib import Path


def visible_devices() -> list[str]:
    """Names of the CUDA devices that may be used."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]
    nodes = Path("/dev").glob("nvidia*")
    return sorted(m[1] for node in nodes if (m := re.fullmatch(r"nvidia(\d+)", node.name)))


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """One worker per CUDA device; without one, one per core, because tiny models run best on one thread each."""
    return len(visible_devices()) or cores()
