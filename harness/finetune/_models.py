"""Models from and to plain folders: what is trained is whole, what is saved is whole, and both say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.adapters import adapter_of
from harness.errors import StageFailed, UserError
from harness.records.templates import template_of, tokenizer_home
from harness.store.atomic import sync_folder

if TYPE_CHECKING:
    from harness.finetune._options import Lora, Tuning
    from harness.records.chat import ChatFormat

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".index.json")
_WRITTEN = ("config.json", "generation_config.json", "adapter_config.json", "manifest.json", "README.md")


def load_model(folder: Path, block: Tuning) -> Any:
    """A causal language model in the block's dtype; a LoRA adapter folder is merged into its base.

    Raises:
        UserError: no such folder, an architecture that is no causal language model, or weights that do not fill it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    adapter = (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
    given = block.trl.get("model_init_kwargs")
    options = {"dtype": getattr(torch, block.dtype), **(given if isinstance(given, dict) else {})}
    if block.attn_implementation is not None:
        options["attn_implementation"] = block.attn_implementation
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            adapter_of(folder).base if adapter else folder, local_files_only=True, output_loading_info=True, **options
        )
    except ImportError as error:
        raise UserError(
            f"the model in {folder} cannot be loaded with attn_implementation {options.get('attn_implementation')}: "
            f"{error} Install what it needs, or leave the option out"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"the model in {folder} cannot be loaded for training: {error}") from error
    lacking = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if lacking:
        raise UserError(
            f"the model in {folder} lacks weights that its config.json asks for ({', '.join(lacking[:3])}; "
            f"{len(lacking)} in all): they would start at random. Copy the whole folder again."
        )
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    model.config.use_cache = False
    return model


def lora_config(lora: Lora) -> Any:
    """PEFT's configuration of the adapters."""
    from peft import LoraConfig

    target = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=target, task_type="CAUSAL_LM"
    )


def whole_states(model: Any, keep: bool) -> dict[str, Any]:
    """The weights of a model that is shared out between processes, brought together one by one, in CPU memory.

    Every process has to ask; those that do not `keep` get nothing.
    """
    states = {}
    for name, value in model.state_dict().items():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        if keep:
            states[name] = whole.detach().cpu()
    return states


def with_states(model: Any, states: dict[str, Any], block: Tuning) -> Any:
    """The model with the weights of a training whose shards were brought together."""
    if block.lora is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora_config(block.lora))
    model.load_state_dict(states)
    return model


def save_model(model: Any, chat: ChatFormat, start: Path, out: Path) -> None:
    """Writes a plain model folder in one step: weights, config, the start's tokenizer files, its template in effect.

    Adapters are merged. The generation config lists every token that ends a turn, so that other programs stop where the
    training did. A folder that a killed run left at `out` is replaced.
    """
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.config.use_cache = True
    model.generation_config.eos_token_id = list(chat.stop_ids) or None
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with writing(temporary):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        _add_tokenizer(chat, tokenizer_home(start), temporary)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(temporary, out)
        sync_folder(out.parent)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Leaves no part of a folder behind that could not be written.

    Raises:
        StageFailed: the disk is full or read-only.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StageFailed(
            f"{folder} could not be written ({error}): free or unlock the disk, then run the same command again; "
            f"training goes on from its last whole checkpoint"
        ) from error


def _add_tokenizer(chat: ChatFormat, home: Path, temporary: Path) -> None:
    for file in sorted(home.iterdir()):
        ours = file.name in _WRITTEN or file.name.startswith(".") or file.name.endswith(_WEIGHTS)
        if file.is_file() and not ours:
            shutil.copyfile(file, temporary / file.name)
    if template_of(temporary) != chat.template or not (temporary / "chat_template.jinja").is_file():
        (temporary / "chat_template.jinja").write_text(chat.template, encoding="utf-8")
    for file in temporary.iterdir():  # safetensors makes its files unreadable to other users of a shared store
        shutil.copymode(temporary / "config.json", file)
