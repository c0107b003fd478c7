"""TRL's trainers with a watch on each step: the rows of a batch are known, and what is not a number stops the stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import StageFailed
from harness.finetune import _checkpoint
from harness.finetune._batches import Order
from harness.finetune._data import named
from harness.finetune._models import writing
from harness.finetune._world import ALONE, World, gathered, loader, total

REMEDY = (
    "Try a smaller learning_rate, some warmup_steps or a smaller max_grad_norm, and look at these rows; with bf16, try "
    "`bf16: false`."
)
Progress = Callable[[int, int, Mapping[str, float]], None]


@dataclass
class Watch:
    """What is known of a training besides TRL's own state.

    Attributes:
        ids: row ids by index. tokens: tokens by row. trained: tokens with a loss, by row.
        fingerprint: identity of the training, which a checkpoint must carry to be resumed.
    """

    ids: Sequence[str]
    tokens: Sequence[int]
    trained: Sequence[int]
    order: Order
    fingerprint: str
    save_seconds: float
    save_steps: int | None
    here: World = ALONE
    progress: Progress | None = None
    seen_tokens: int = 0
    seen_trained: int = 0
    step: int = -1
    rows: list[int] = field(default_factory=list)

    def take(self, step: int, rows: Sequence[int]) -> None:
        """Notes the rows of a forward pass of optimizer step `step` (from 0)."""
        if step != self.step:
            self.step, self.rows = step, []
        self.rows += rows
        self.seen_tokens += sum(self.tokens[row] for row in rows)
        self.seen_trained += sum(self.trained[row] for row in rows)

    def check_number(self, what: str, value: float) -> None:
        """Raises StageFailed, with step and rows, where a loss or gradient norm is not a finite number."""
        if not math.isfinite(value):
            rows = named([self.ids[row] for row in dict.fromkeys(self.rows)])
            raise StageFailed(f"the {what} is {value} at step {self.step + 1}, on the rows {rows}. {REMEDY}")

    def check_trained(self, rows: Sequence[int], trained: int) -> None:
        """Raises StageFailed where a batch trains no token, or not just those that its rows train."""
        expected = sum(self.trained[row] for row in rows)
        if trained == 0 or trained != expected:
            ids = named([self.ids[row] for row in rows])
            raise StageFailed(f"a batch trains {trained:,} tokens where its rows train {expected:,}. Its rows: {ids}")


_Trainer: Any = object
"""What stands behind `Guarded` is one of TRL's trainers, named where it is built: importing them takes seconds."""


class Guarded(_Trainer):
    """A trainer's steps, watched. Comes before TRL's class in the bases; `watch` must be set before `train`."""

    watch: Watch

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        rows = inputs.pop("rows")
        self.watch.take(self.state.global_step, rows)
        if (trained := inputs.pop("trained", None)) is not None and rows:
            self.watch.check_trained(rows, trained)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.watch.check_number("loss", float(loss))
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        weights, share = inputs.pop("weights", None), inputs.pop("share", 1.0)
        if weights is None:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            # a mean over a process's pairs; a loss over tokens is divided by all processes' tokens already
            return loss if "labels" in inputs or share == 1.0 else loss * share
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        count = kwargs.get("num_items_in_batch")
        weights = weights if "shift_labels" in inputs else weights[:, 1:]
        summed = -(outputs.log_probs * weights).sum() * self.accelerator.num_processes
        return summed / (outputs.label_mask.sum() if count is None else count)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.watch.check_number("gradient", float(norm))
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self._metrics["train"]["num_tokens"] = total(self.watch.here, self.watch.seen_tokens)
        super().log(logs, start_time)
        if self.watch.progress is not None and "loss" in logs:
            self.watch.progress(self.state.global_step, self.state.max_steps, dict(logs))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with writing(folder):
            super()._save_checkpoint(model, trial)
            carry = gathered(self.watch.here, _checkpoint.carried(self))  # all have written when all have answered
            if self.watch.here.first:
                _checkpoint.complete(folder, self.watch.fingerprint, carry)


class Ours(_Trainer):
    """What we do ourselves, or not at all, in place of TRL."""

    watch: Watch

    def _send_telemetry(self) -> None:
        """Nothing about a user's training leaves the machine."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs no card."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Not reported; TRL's count walks through all parameters in every step."""
        return 0

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # rows come as token ids, rendered by harness.records.chat

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # harness.finetune._pairs does it in memory, without a cache file

    def get_train_dataloader(self) -> Any:
        here = self.watch.here
        if here.size == 1:
            return super().get_train_dataloader()
        return loader(self, here, self.args.per_device_train_batch_size * here.size)

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.watch.order


@cache
def guarded(base: str) -> Any:
    """`SFTTrainer` or `DPOTrainer` with the watch; the trainer's `watch` must be set before `train`."""
    import trl

    return type(f"Guarded{base}", (Guarded, Ours, getattr(trl, base)), {})
