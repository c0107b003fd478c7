"""One fine-tuning from start to end: open, encode, train or resume, save, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import TrainContext, TrainReport
from harness.errors import StageFailed, UserError
from harness.finetune import _checkpoint, _figures, _points
from harness.finetune._batches import Order
from harness.finetune._data import Encoded, T
from harness.finetune._guards import Watch
from harness.finetune._models import load_model, save_model, whole_states, with_states
from harness.finetune._quiet import surroundings
from harness.finetune._setup import (
    Built,
    Measured,
    Opened,
    check_vocabulary,
    open_start,
    precision,
    recomputes,
    settings,
)
from harness.finetune._warmup import resumed_warmup
from harness.finetune._world import total
from harness.records.hashing import sha256

if TYPE_CHECKING:
    from harness.finetune._options import Tuning

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
            opened = open_start(block, context)
        with clock("encode"):
            encoded = encode(opened)
            check_vocabulary(opened.model, encoded.rows)
        with clock("setup"):
            try:
                built = build(opened, encoded, settings(opened))
            except (ValueError, NotImplementedError) as error:  # a value that only TRL or PEFT can judge
                raise UserError(f"{block.name} refuses an option: {error}") from error
            _check_sharded(opened, built)
            watch = _watch(opened, encoded, built)
        _figures.reset_peak(opened.device)
        with clock("train"):
            resumed, before = _train(opened, built, watch)
        speed, by = _speed(opened, built, watch, before, clock.seconds["train"])
        with clock("measure"):
            found = built.measure()
        with clock("save"):
            _save(opened, built.trainer, found)
    report = _report(opened, encoded, built, watch, clock, resumed)
    return replace(
        report, figures=dict(found.figures), notes=dict(found.notes), speed=speed, runtime={**report.runtime, **by}
    )


def _check_sharded(opened: Opened, built: Built) -> None:
    """Raises UserError where a model that should be shared out would stay whole on each device."""
    if opened.here.size > 1 and opened.block.sharding == "fsdp" and not built.trainer.is_fsdp_enabled:
        raise UserError(f"sharding: fsdp has no effect on {opened.device}: write sharding: ddp")


def _speed(
    opened: Opened, built: Built, watch: Watch, before: tuple[int, int], seconds: float
) -> tuple[dict[str, float], dict[str, str]]:
    """Throughput, use of the device and memory, of what was trained since the start or the checkpoint."""
    tokens, trained, old_tokens, old_trained = total(opened.here, watch.seen_tokens, watch.seen_trained, *before)
    watch.seen_tokens, watch.seen_trained = tokens, trained
    done = (tokens - old_tokens, trained - old_trained)
    figures, by = _figures.speed(opened, built.sequences or built.tokens, *done, seconds, precision(opened))
    return _figures.rounded(figures), by


def _save(opened: Opened, trainer: Any, found: Measured) -> None:
    """Writes the model; of several processes the first does, once all have given their shards."""
    block, context = opened.block, opened.context
    sharded = opened.here.size > 1 and block.sharding == "fsdp"
    states = whole_states(trainer.model, opened.here.first) if sharded else None
    if not opened.here.first:
        return
    tuned = trainer.accelerator.unwrap_model(trainer.model)
    if found.keep_start or states is not None:
        tuned = load_model(context.start, block)
    if states is not None and not found.keep_start:
        tuned = with_states(tuned, states, block)
    save_model(tuned, opened.chat, context.start, context.out)
    _points.finish(opened)


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
        "versions": _versions(),
        **({"spread": [opened.here.size, block.sharding]} if opened.here.size > 1 else {}),
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
        here=opened.here,
        progress=context.progress,
    )
    built.trainer.watch = watch
    return watch


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def _train(opened: Opened, built: Built, watch: Watch) -> tuple[int, tuple[int, int]]:
    """Trains; returns the step that it resumed from (0: from the beginning), and the tokens that were seen by then."""
    from transformers.trainer_callback import PrinterCallback

    trainer = built.trainer
    found = _checkpoint.newest(Path(trainer.args.output_dir), watch.fingerprint, opened.here.rank)
    saver = _checkpoint.saver(watch, found[1] if found else None)
    saver.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(saver)
    if opened.block.warmup_done:
        trainer.add_callback(resumed_warmup(opened.block.warmup_done))
    if opened.block.checkpoints > 1:
        keeper = _points.keeper(opened)
        keeper.trainer = trainer
        trainer.add_callback(keeper)
    trainer.train_dataset = built.items
    trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    if found is None:
        return 0, (0, 0)
    return int(found[0].name.rpartition("-")[2]), (found[1]["tokens"], found[1]["trained"])


def _report(
    opened: Opened, encoded: Encoded[Any], built: Built, watch: Watch, clock: Clock, resumed: int
) -> TrainReport:
    history = tuple(_point(entry) for entry in built.trainer.state.log_history if "loss" in entry)
    runtime = {
        "device": str(opened.device),
        "precision": precision(opened),
        "layout": built.layout,
        "attention": str(getattr(opened.model.config, "_attn_implementation", None)),
        "recomputed": str(recomputes(opened)).lower(),
        "devices": f"{opened.here.size} {built.trainer.accelerator.distributed_type.value}",
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
        rows = block.batch_size
        ways = [
            f"batch_size: {max(1, rows // 2)} with gradient_accumulation_steps: "
            f"{block.gradient_accumulation_steps * 2} (the result stays the same)"
            if rows > 1
            else "a smaller max_length (batch_size is 1 already)",
            *([] if block.gradient_checkpointing else ["gradient_checkpointing: true (the same result, slower)"]),
            *([] if block.lora else ["adapters with `lora: {}`"]),
            *([] if block.sharding == "fsdp" else ["several devices with `devices: 2, sharding: fsdp`"]),
        ]
        raise StageFailed(f"{block.name} ran out of memory. Set {', or '.join(ways)}. PyTorch: {error}") from error
