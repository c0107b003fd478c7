"""`engine: auto`: which engine runs a model on this machine, and why. Loads neither torch nor vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.engines.adapters import adapter_of, is_adapter
from harness.engines.families import family_of
from harness.engines.limits import OPTIONS
from harness.engines.vllm.installed import architectures, build, visible_devices, vllm_version
from harness.engines.vllm.options import VllmOptions
from harness.records.templates import settings_of

SMALLEST = 256 * 2**20
"""Bytes of weights from which vLLM is worth its start of half a minute and more."""
_A = {"reward": "a reward model", "encoder": "a text encoder"}
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Choice:
    """An engine and the reason, as half a sentence."""

    engine: Literal["transformers", "vllm"]
    why: str

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options without those that only the other engine has; what neither knows stays, and is refused."""
        known = {"transformers": frozenset(OPTIONS), "vllm": frozenset(VllmOptions.model_fields)}
        other = frozenset().union(*known.values()) - known[self.engine]
        return {name: value for name, value in given.items() if name not in other}


def choose(path: Path | None, device: str) -> Choice:
    """The engine for the model in a folder (None: one that is still to be made) on a device.

    vLLM where it is installed for CUDA, a GPU is there, it knows the architecture and the model is large; else the
    transformers engine.
    """
    reason = _against(path, device)
    if reason is not None:
        return Choice("transformers", f"auto: {reason}")
    name, size = _architecture(path), _bytes(path)
    return Choice("vllm", f"auto: a CUDA device, vLLM {vllm_version()} knows {name}, {size / 2**30:.1f} GiB of weights")


def _against(path: Path | None, device: str) -> str | None:
    """Why vLLM is not taken; None where it is."""
    if path is None:
        return "its weights are made by the run, and are few"
    if (family := family_of(path)) != "causal":
        return f"vLLM only writes and scores texts, and this is {_A[family]}"
    made = build()
    if made is None:
        return "vLLM is not installed"
    if made == "cpu" or device == "cpu" or not visible_devices():
        return "no CUDA device, and on a CPU the transformers engine writes as fast and opens at once"
    if is_adapter(path) and not adapter_of(path).plain:
        return "its adapter is more than low-rank updates, which vLLM does not serve"
    if (known := architectures()) and (name := _architecture(path)) not in known:
        return f"vLLM has no code for the architecture {name}"
    if (size := _bytes(path)) < SMALLEST:
        return f"with {size / 2**20:.0f} MiB of weights it is done before vLLM would be open"
    return None


def _architecture(path: Path | None) -> str:
    names = settings_of(path, "config.json").get("architectures") if path is not None else None
    return str(names[0]) if isinstance(names, list) and names else "without a name"


def _bytes(path: Path | None) -> int:
    """Bytes of the weights (of an adapter's base)."""
    if path is None:
        return 0
    folder = adapter_of(path).base if is_adapter(path) else path
    return sum(file.stat().st_size for pattern in _WEIGHTS for file in folder.glob(pattern))
