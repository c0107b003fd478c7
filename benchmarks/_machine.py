"""What every benchmark does alike: it says on what it ran, runs its sides in turn, and writes one JSON file."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("loopbench", "torch", "transformers", "tokenizers", "numpy")


def quiet(threads: int = 1) -> None:
    """Fixes the number of threads and keeps libraries off the network; call it before they are imported."""
    count = str(threads)
    os.environ.update(OMP_NUM_THREADS=count, MKL_NUM_THREADS=count, OPENBLAS_NUM_THREADS=count)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")


def machine() -> dict[str, Any]:
    """The hardware, and how busy it is just now (a load above the benchmark's own makes its times worthless)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"cores": cores, "processor": _processor(), "memory_gib": _memory(), "load": round(os.getloadavg()[0], 2)}
    return found | {"system": platform.platform()}


def versions(names: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Versions of Python and of installed packages; None for one that is not there."""
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def alternated(sides: Mapping[str, Callable[[], Any]], runs: int, warm: int = 1) -> dict[str, list[dict[str, float]]]:
    """Wall and processor seconds of each side, run in turn; every other round begins with the other end.

    Args:
        sides: name to what is timed.
        runs: timed runs of each side.
        warm: rounds before those, which are not counted.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(warm + runs):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            sides[name]()
            took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            if number >= warm:
                found[name].append(took)
    return found


def medians(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The median of every figure of every side."""
    return {
        name: {key: statistics.median(one[key] for one in every) for key in every[0]} for name, every in runs.items()
    }


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Writes and prints a result."""
    text = json.dumps(result, indent=1, ensure_ascii=False, default=str)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
