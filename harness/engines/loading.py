"""Opens the weights of a model folder: device, number format, LoRA adapters. Nothing is downloaded, no code is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.engines.adapters import adapter_of
from harness.engines.base import ModelSpec
from harness.engines.families import Family
from harness.engines.fits import Unfit, check_room, unfit, weights_bytes
from harness.errors import UserError

DTYPES = ("float32", "bfloat16", "float16", "auto")
"""Number formats of the weights; `auto` takes that of the checkpoint."""


def load_model(folder: Path, dtype: str, device: str, family: Family = "causal") -> Any:
    """The model of a folder in evaluation mode; an adapter is merged into its base.

    Args:
        folder: a Hugging Face model folder, or a LoRA adapter whose base is on disk.
        dtype: one of `DTYPES`.
        device: `auto` (the first GPU if there is one), or a name that PyTorch knows.
        family: which head is loaded, as `harness.engines.families` tells it.

    Raises:
        UserError: an unknown dtype or device, or files that do not load.
    """
    import torch

    where = device_of(device)
    if dtype not in DTYPES:
        raise UserError(f"the dtype {dtype!r} is unknown: choose one of {', '.join(DTYPES)}.")
    kind = "auto" if dtype == "auto" else getattr(torch, dtype)
    adapter = (folder / "adapter_config.json").is_file()
    base = adapter_of(folder).base if adapter else folder  # PEFT leaves out what a base does not have, without a word
    check_room(base, dtype, device)
    model = _pretrained(base, kind, family)
    if adapter:
        model = _merged(model, folder)
    try:
        return model.to(where).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise Unfit(unfit(folder, dtype, weights_bytes(base, dtype), str(where), None)) from error
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the model in {folder} cannot be put on the device {device!r}: {error}") from error


def device_of(name: str) -> Any:
    """The device of a name; `auto` is the first GPU where there is one, else the CPU.

    Raises:
        UserError: PyTorch does not know the name, or no such device is here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"the device {name!r} is unknown: write auto, cpu or cuda (cuda:1 for the second GPU)."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"the device {name!r} was asked for, but PyTorch sees no GPU here: write device: auto or cpu.")
    return device


def check_folder(spec: ModelSpec) -> Path:
    """The folder of a model, if it looks like one; cheap, so that a plan can ask before anything runs.

    Raises:
        UserError: no folder is named, or it is not there, or it holds no model.
    """
    if spec.path is None:
        raise UserError(f"the model {spec.name} names no folder: give it a path.")
    if not any((spec.path / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise UserError(
            f"the model {spec.name} should be in {spec.path}, but there is no config.json (nor adapter_config.json): "
            f"name a model folder that is on this disk; nothing is downloaded."
        )
    return spec.path


def _pretrained(folder: Path, dtype: Any, family: Family) -> Any:
    """A model with every weight from the files; transformers would fill missing ones with random numbers."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    offline = {"trust_remote_code": False, "local_files_only": True}
    heads = {"causal": AutoModelForCausalLM, "reward": AutoModelForSequenceClassification, "encoder": AutoModel}
    try:
        model, found = heads[family].from_pretrained(str(folder), dtype=dtype, output_loading_info=True, **offline)
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"the model in {folder} cannot be loaded: {error}") from error
    # The pooler of an encoder is used by none of ours, and masked language models come without one.
    if missing := sorted(key for key in found["missing_keys"] if family != "encoder" or "pooler" not in key):
        raise UserError(
            f"the weights in {folder} are incomplete: {len(missing)} tensors are missing, {missing[0]} among them. "
            f"Copy the folder again, and check that config.json belongs to these weights."
        )
    return model


def _merged(base: Any, folder: Path) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"the LoRA adapter in {folder} does not fit its base model: {error}") from error
