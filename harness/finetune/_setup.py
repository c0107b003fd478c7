"""What a block builds its trainer from, and the arguments for TRL that SFT and DPO share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import TrainContext
from harness.errors import UserError
from harness.finetune._data import Pair, Row, named
from harness.finetune._models import load_model, lora_config
from harness.finetune._world import ALONE, World, world

if TYPE_CHECKING:
    from harness.finetune._options import Tuning
    from harness.records.chat import ChatFormat


@dataclass(frozen=True)
class Opened:
    """What a block builds its trainer from."""

    block: Tuning
    context: TrainContext
    chat: ChatFormat
    model: Any
    device: Any
    limit: int
    """Longest sequence: `max_length`, or fewer positions where the model has fewer."""
    here: World = ALONE

    @property
    def hidden(self) -> int:
        """Width of the model."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def pad(self) -> int:
        """Id of padding; what it is does not matter, since nothing is trained on it."""
        return next((i for i in (self.chat.tokenizer.pad_token_id, self.chat.eos) if i is not None), 0)


@dataclass(frozen=True)
class Measured:
    """What was measured after a training. `keep_start`: the result is the start model, unchanged."""

    figures: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    keep_start: bool = False


@dataclass(frozen=True)
class Built:
    """A trainer with its rows. `tokens` and `trained` are per row; `items` is what the sampler draws from.

    `sequences` are the lengths of what the model reads where a row is not one sequence (both sides of a pair).
    `measure` is called between the last step and saving.
    """

    trainer: Any
    items: Sequence[Any]
    lengths: Sequence[int]
    tokens: Sequence[int]
    trained: Sequence[int]
    layout: str
    measure: Callable[[], Measured] = Measured
    sequences: Sequence[int] = ()


def settings(opened: Opened) -> dict[str, Any]:
    """Arguments for TRL's configuration that SFT and DPO share."""
    block, cpu = opened.block, opened.device.type == "cpu"
    further = {name: value for name, value in block.trl.items() if name != "model_init_kwargs"}
    return {
        "output_dir": str(opened.context.work),
        "per_device_train_batch_size": block.batch_size // block.devices,
        "num_train_epochs": block.epochs,
        "seed": opened.context.seed % 2**32,
        "bf16": precision(opened) == "bfloat16" and block.dtype == "float32",
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": not cpu,
        "remove_unused_columns": False,
        "use_cpu": cpu,
        "gradient_checkpointing": recomputes(opened),
        "use_liger_kernel": block.use_liger_kernel,
        **_spread(opened),
        **{name: getattr(block, name) for name in _SAME},
        **further,
    }


_SAME = (
    "gradient_accumulation_steps", "learning_rate", "optim", "lr_scheduler_type", "warmup_steps", "weight_decay",
    "max_grad_norm", "logging_steps", "save_total_limit",
)  # fmt: skip
_STATES = 16
"""Bytes per parameter of a full training: weights, gradients and two moments, in float32."""


def _spread(opened: Opened) -> dict[str, Any]:
    """Arguments of one of several processes. Every parameter takes part in every step, so none is searched for."""
    if opened.here.size == 1:
        return {}
    backend = {"ddp_backend": "gloo"} if opened.device.type == "cpu" else {}
    fsdp = {"fsdp": True, "fsdp_config": {"version": 2}} if opened.block.sharding == "fsdp" else {}
    return {"ddp_find_unused_parameters": False, **backend, **fsdp}


def recomputes(opened: Opened) -> bool:
    """Whether activations are recomputed: as the block says, else where a training fills a third of a GPU's memory."""
    if opened.block.gradient_checkpointing is not None or opened.device.type != "cuda":
        return bool(opened.block.gradient_checkpointing)
    import torch

    _, memory = torch.cuda.mem_get_info(opened.device)
    shards = opened.here.size if opened.block.sharding == "fsdp" else 1
    states = _STATES if opened.block.lora is None else _STATES // 4
    return bool(3 * states * sum(p.numel() for p in opened.model.parameters()) / shards > memory)


def configured(name: str, arguments: dict[str, Any]) -> Any:
    """TRL's configuration object.

    Raises:
        UserError: TRL refuses a value.
    """
    import trl

    try:
        made = getattr(trl, name)(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"TRL's {name} refuses an option: {error}") from error
    if made.n_gpu > 1:  # several GPUs are in sight and one process trains: on the first, not on copies in threads
        made._n_gpu = 1  # noqa: SLF001
    return made


def steps_for(block: Tuning, items: int, tokens: int) -> int:
    """Optimizer steps, or -1 where the number of epochs decides. `tokens` are those of one epoch."""
    if block.max_steps is not None:
        return block.max_steps
    if block.train_tokens is None:
        return -1
    per_epoch = -(-items // (block.batch_size * block.gradient_accumulation_steps))
    return max(1, round(block.train_tokens * per_epoch / tokens))


def precision(opened: Opened) -> str:
    """What the arithmetic runs in."""
    import torch

    if opened.block.dtype == "bfloat16":
        return "bfloat16"
    wanted = opened.block.bf16
    if wanted is None:
        wanted = opened.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if wanted else "float32"


def adapters(opened: Opened) -> Any:
    """PEFT's configuration, or None for full tuning."""
    return lora_config(opened.block.lora) if opened.block.lora is not None else None


def open_start(block: Tuning, context: TrainContext) -> Opened:
    """Loads the start model and its chat format.

    Raises:
        UserError: the model does not load, or the device is not here.
    """
    import torch

    from harness.engines.loading import device_of
    from harness.records.chat import ChatFormat

    device = device_of(context.device)
    if device.type == "cuda" and device.index:
        raise UserError(
            f"training runs on the first visible GPU: set CUDA_VISIBLE_DEVICES={device.index}, device: cuda"
        )
    here = world()
    if device.type == "cuda" and here.size > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    _check_liger(block, device.type)
    model = load_model(context.start, block)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or block.max_length
    chat = ChatFormat.from_folder(context.start)
    return Opened(block, context, chat, model, device, min(block.max_length, positions), here)


def _check_liger(block: Tuning, device: str) -> None:
    from transformers.utils import is_liger_kernel_available

    if not block.use_liger_kernel:
        return
    if device == "cpu" or not is_liger_kernel_available():
        lack = "a GPU: this training runs on the CPU" if device == "cpu" else "the package liger-kernel"
        raise UserError(
            f"use_liger_kernel needs {lack}. On a machine with a GPU: pip install liger-kernel; else leave it out"
        )


def check_vocabulary(model: Any, rows: Sequence[Row | Pair]) -> None:
    """Raises UserError where a row has an id without an embedding, which an accelerator would only crash on."""
    size = model.get_input_embeddings().num_embeddings
    bad = [row.id for row in rows if any(len(part) and part.max() >= size for part in _ids(row))]
    if bad:
        raise UserError(
            f"the tokenizer gives ids that the model has no embedding for (it has {size:,}), in the rows {named(bad)}: "
            f"tokenizer and weights do not belong together"
        )


def _ids(row: Row | Pair) -> tuple[Any, ...]:
    return (row.ids,) if isinstance(row, Row) else (row.prompt, row.chosen, row.rejected)
