"""One fine-tuning from start to end: open, encode, train or resume, save, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import TrainContext, TrainReport
from harness.errors import StageFailed, UserError
from harness.finetune import _checkpoint
from harness.finetune._batches import Order
from harness.finetune._data import Encoded, Pair, Row, T, named
from harness.finetune._guards import Watch, guarded
from harness.finetune._models import load_model, lora_config, save_model
from harness.finetune._quiet import surroundings
from harness.records.hashing import sha256

if TYPE_CHECKING:
    from harness.finetune._options import Tuning
    from harness.records.chat import ChatFormat

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


@dataclass
class Clock:
    """Seconds by part of a training."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began


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

    @property
    def pad(self) -> int:
        """Id of padding; what it is does not matter, since nothing is trained on it."""
        return next((i for i in (self.chat.tokenizer.pad_token_id, self.chat.eos) if i is not None), 0)


@dataclass(frozen=True)
class Built:
    """A trainer with its rows. `tokens` and `trained` are per row; `items` is what the sampler draws from."""

    trainer: Any
    items: Sequence[Any]
    lengths: Sequence[int]
    tokens: Sequence[int]
    trained: Sequence[int]
    layout: str


def imports() -> None:
    """Imports all that a training needs: about six seconds, once per process."""
    import peft  # noqa: F401
    import trl

    trl.SFTTrainer, trl.DPOTrainer  # noqa: B018 names in trl are imported when they are first asked for


def tune(
    block: Tuning,
    context: TrainContext,
    encode: Callable[[Opened], Encoded[T]],
    build: Callable[[Opened, Encoded[T], dict[str, Any]], Built],
) -> TrainReport:
    """Runs a fine-tuning; `encode` and `build` are what SFT and DPO differ in.

    Raises:
        UserError: the model, an option or the device is wrong.
        StageFailed: a loss or gradient is no number, a mask trains the wrong tokens, there are no rows or no memory.
    """
    clock = Clock()
    with clock("import"):
        imports()
    with surroundings(context.threads), _memory(block):
        with clock("load"):
            opened = _open(block, context)
        with clock("encode"):
            encoded = encode(opened)
            _check_vocabulary(opened.model, encoded.rows)
        with clock("setup"):
            built = build(opened, encoded, settings(opened, encoded))
            watch = _watch(opened, encoded, built)
        with clock("train"):
            resumed = _train(built, watch, context)
        with clock("save"):
            tuned = built.trainer.accelerator.unwrap_model(built.trainer.model)
            save_model(tuned, opened.chat, context.start, context.out)
    return _report(opened, encoded, built, watch, clock, resumed)


def settings(opened: Opened, encoded: Encoded[Any]) -> dict[str, Any]:
    """Arguments for TRL's configuration that SFT and DPO share."""
    block, cpu = opened.block, opened.device.type == "cpu"
    further = {name: value for name, value in block.trl.items() if name != "model_init_kwargs"}
    return {
        "output_dir": str(opened.context.work),
        "per_device_train_batch_size": block.batch_size,
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
        **{name: getattr(block, name) for name in _SAME},
        **further,
    }


_SAME = (
    "gradient_accumulation_steps", "learning_rate", "optim", "lr_scheduler_type", "warmup_steps", "weight_decay",
    "max_grad_norm", "gradient_checkpointing", "logging_steps", "save_total_limit",
)  # fmt: skip


def configured(name: str, arguments: dict[str, Any]) -> Any:
    """TRL's configuration object.

    Raises:
        UserError: TRL refuses a value.
    """
    import trl

    try:
        return getattr(trl, name)(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"TRL's {name} refuses an option: {error}") from error


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


def trainer_class(base: str) -> Any:
    """TRL's trainer of that name with the watch of `harness.finetune._guards`."""
    return guarded(base)


def _open(block: Tuning, context: TrainContext) -> Opened:
    from harness.engines.loading import device_of
    from harness.records.chat import ChatFormat

    device = device_of(context.device)
    if device.type == "cuda" and device.index:
        raise UserError(
            f"training runs on the first visible GPU: set CUDA_VISIBLE_DEVICES={device.index}, device: cuda"
        )
    model = load_model(context.start, block)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or block.max_length
    chat = ChatFormat.from_folder(context.start)
    return Opened(block, context, chat, model, device, min(block.max_length, positions))


def _check_vocabulary(model: Any, rows: Sequence[Row | Pair]) -> None:
    size = model.get_input_embeddings().num_embeddings
    bad = [row.id for row in rows if any(len(part) and part.max() >= size for part in _ids(row))]
    if bad:
        raise UserError(
            f"the tokenizer gives ids that the model has no embedding for (it has {size:,}), in the rows {named(bad)}: "
            f"tokenizer and weights do not belong together"
        )


def _ids(row: Row | Pair) -> tuple[Any, ...]:
    return (row.ids,) if isinstance(row, Row) else (row.prompt, row.chosen, row.rejected)


def _watch(opened: Opened, encoded: Encoded[Any], built: Built) -> Watch:
    block, context = opened.block, opened.context
    start = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in sorted(context.start.iterdir())]
    identity = {
        "block": [block.name, block.version, block.identity_options()],
        "seed": context.seed,
        "rows": encoded.digest(),
        "start": start,
        "layout": built.layout,
        "precision": precision(opened),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    order = Order(
        built.lengths, context.seed, block.batch_size * block.gradient_accumulation_steps, block.group_by_length
    )
    watch = Watch(
        ids=[row.id for row in encoded.rows],
        tokens=built.tokens,
        trained=built.trained,
        order=order,
        fingerprint=sha256(identity),
        save_seconds=block.save_seconds,
        save_steps=block.save_steps,
        progress=context.progress,
    )
    built.trainer.watch = watch
    return watch


def _train(built: Built, watch: Watch, context: TrainContext) -> int:
    """Trains; returns the step that it resumed from (0: from the beginning)."""
    from transformers.trainer_callback import PrinterCallback

    trainer = built.trainer
    found = _checkpoint.newest(Path(trainer.args.output_dir), watch.fingerprint)
    saver = _checkpoint.saver(watch, found[1] if found else None)
    saver.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(saver)
    trainer.train_dataset = built.items
    trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    return int(found[0].name.rpartition("-")[2]) if found else 0


def _report(
    opened: Opened, encoded: Encoded[Any], built: Built, watch: Watch, clock: Clock, resumed: int
) -> TrainReport:
    history = tuple(_point(entry) for entry in built.trainer.state.log_history if "loss" in entry)
    runtime = {
        "device": str(opened.device),
        "precision": precision(opened),
        "layout": built.layout,
        "resumed_from_step": str(resumed),
    }
    return TrainReport(
        steps=built.trainer.state.global_step,
        rows=len(encoded.rows),
        train_tokens=watch.seen_tokens,
        loss_tokens=watch.seen_trained,
        first_loss=history[0]["loss"] if history else None,
        last_loss=history[-1]["loss"] if history else None,
        history=history,
        dropped=dict(encoded.dropped),
        counts={name: count for name, count in encoded.counts.items() if count},
        seconds={part: round(seconds, 4) for part, seconds in clock.seconds.items()},
        runtime=runtime,
    )


def _point(entry: dict[str, Any]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in entry.items() if isinstance(value, int | float)}
    numbers["tokens"] = numbers.pop("num_tokens", 0.0)
    return numbers


@contextmanager
def _memory(block: Tuning) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise StageFailed(
            f"{block.name} ran out of memory: lower batch_size and raise gradient_accumulation_steps by as much (the "
            f"result stays the same), set `gradient_checkpointing: true`, or train adapters with `lora: {{}}`. "
            f"PyTorch: {error}"
        ) from error
