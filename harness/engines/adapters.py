"""LoRA adapters by their files: which base they belong to, and whether they fit it. No weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.templates import adapter_base

_PREFIX = "base_model.model."
_ENDS = frozenset({"lm_head", "embed_tokens"})
"""The layers between ids and vectors, which no engine updates without merging."""
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: its folder, its base's, its largest rank, and the names of the layers that it updates."""

    folder: Path
    base: Path
    rank: int
    modules: frozenset[str]
    plain: bool
    """Only low-rank updates of inner linear layers: what an engine can serve without merging."""


def is_adapter(folder: Path | None) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return folder is not None and (folder / "adapter_config.json").is_file()


def adapter_of(folder: Path) -> Adapter:
    """The adapter in a folder, checked against its base.

    Raises:
        UserError: its base is not on this disk, it has no weights, or their shapes are not those of its base.
    """
    base = adapter_base(folder)
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise UserError(f"the LoRA adapter in {folder} has no weights ({' or '.join(_WEIGHTS)}): copy it again.")
    targets = settings.get("target_modules")  # a list, or a pattern
    named = frozenset(targets) if isinstance(targets, list) else frozenset()
    modules = _modules(folder, base, turned=bool(settings.get("fan_in_fan_out"))) or named
    ranks = [int(settings.get("r") or 8), *map(int, (settings.get("rank_pattern") or {}).values())]
    plain = (
        settings.get("peft_type", "LORA") == "LORA"
        and not settings.get("use_dora")
        and not settings.get("modules_to_save")
        and (settings.get("bias") or "none") == "none"
        and not modules & _ENDS
    )
    return Adapter(folder=folder, base=base, rank=max(ranks), modules=modules, plain=plain)


def _modules(folder: Path, base: Path, turned: bool) -> frozenset[str]:
    """Names of the updated layers, each of which must be in the base, with the widths that the update has.

    `turned`: the base keeps its weights as (inputs, outputs), as GPT-2 does. A base of quantised weights is not looked
    at: its files have other names and shapes than its layers.
    """
    found = set()
    updates, weights = shapes_of(folder, "adapter_model*.safetensors"), shapes_of(base, "*.safetensors")
    if not updates or not weights:
        return frozenset()  # files of the old format, whose shapes only a loader sees
    packed = _quantised(base)
    for name, shape in updates.items():
        layer, _, part = name.removeprefix(_PREFIX).rpartition(".lora_")
        if not layer:
            continue
        found.add(module := layer.rpartition(".")[2])
        if packed or part not in ("A.weight", "B.weight") or module in _ENDS:
            continue  # the ends may be tied, and then the base's files have one of them only
        reads = part.startswith("A")
        side, width = (1, shape[1]) if reads else (0, shape[0])
        shapes = _alike(layer, weights)
        if not shapes:
            raise _foreign(folder, base, f"it updates {layer}, which its base does not have")
        owns = {own[1 - side if turned else side] for own in shapes if len(own) == 2}
        if owns and width not in owns:
            end = "inputs" if reads else "outputs"
            raise _foreign(folder, base, f"{layer} has {min(owns)} {end} in its base, and {width} in it")
    return frozenset(found)


def _quantised(base: Path) -> bool:
    """Whether a model's weights are packed, as those of bitsandbytes, GPTQ or AWQ are."""
    with suppress(OSError, ValueError, AttributeError):
        return bool(json.loads((base / "config.json").read_text(encoding="utf-8")).get("quantization_config"))
    return False


def _alike(layer: str, weights: Mapping[str, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Shapes of the weights that may be a layer's: files may name what stands before the layer's number otherwise."""
    if (own := weights.get(f"{layer}.weight")) is not None:
        return [own]
    parts = layer.split(".")
    number = next((at for at, part in enumerate(parts) if part.isdigit()), None)
    end = ".".join(parts if number is None else parts[max(0, number - 1) :]) + ".weight"
    return [shape for name, shape in weights.items() if f".{name}".endswith(f".{end}")]


def _foreign(folder: Path, base: Path, what: str) -> UserError:
    return UserError(
        f"the LoRA adapter in {folder} was made for another model than {base}: {what}. Write the folder of its own "
        "base into base_model_name_or_path of adapter_config.json."
    )


def shapes_of(folder: Path, pattern: str) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a folder's safetensors files, read from their headers alone.

    Raises:
        UserError: a file has no header of that format.
    """
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob(pattern)):
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            try:
                found |= _shapes(json.loads(stream.read(size)))
            except (ValueError, MemoryError, OverflowError) as error:
                raise UserError(f"{file} is no readable safetensors file ({error}): copy it again.") from error
    return found


def _shapes(header: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by name; a ValueError where JSON is no header."""
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    found = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        shape = about.get("shape") if isinstance(about, dict) else None
        if not isinstance(shape, list) or not all(isinstance(width, int) for width in shape):
            raise ValueError(f"its header tells no shape of {name}")
        found[name] = tuple(shape)
    return found
