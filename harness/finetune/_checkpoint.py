"""Checkpoints that can be believed, and trainings that resume from them to the number.

A checkpoint is TRL's folder (weights, optimizer, schedule, random states) plus `complete.json`, written last: what the
other files measure, which training they belong to, and the sums that TRL keeps in memory only, without which the
history after a resume would differ from the uninterrupted one. A folder without a fitting `complete.json` is removed.
Accepted: a checkpoint is checked by the sizes of its files, not by their hashes, and flushed before it is called whole.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.finetune._world import agreed
from harness.store.atomic import write_json

if TYPE_CHECKING:
    from harness.finetune._guards import Watch

COMPLETE = "complete.json"
OVERHEAD = 20
"""The time between checkpoints is at least this many times what writing one took."""


def complete(folder: Path, fingerprint: str, carry: Sequence[dict[str, Any]]) -> None:
    """Declares a checkpoint whole, once its files are on the disk. `carry` has one entry per process."""
    sizes = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            sizes[str(file.relative_to(folder))] = file.stat().st_size
    write_json(folder / COMPLETE, {"fingerprint": fingerprint, "files": sizes, "carry": list(carry)})


def newest(work: Path, fingerprint: str, rank: int = 0) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint of this training and what it carries; folders that are not whole are removed."""
    found = []
    for folder in work.glob("checkpoint-*"):
        carry = _carry(folder, fingerprint, rank)
        if carry is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            found.append((int(folder.name.rpartition("-")[2]), folder, carry))
    return max(found)[1:] if found else None


def carried(trainer: Any) -> dict[str, Any]:
    """The sums since the last logged step, which the Trainer's own state leaves out."""
    return {
        "metrics": dict(trainer._metrics["train"]),  # noqa: SLF001
        "loss": float(trainer._tr_loss),  # noqa: SLF001
        "logged": trainer._globalstep_last_logged,  # noqa: SLF001
        "tokens": trainer.watch.seen_tokens,
        "trained": trainer.watch.seen_trained,
    }


def saver(watch: Watch, carry: dict[str, Any] | None, clock: Callable[[], float] = time.monotonic) -> Any:
    """The callback that asks for checkpoints by steps and by time, and puts back what a resumed one carried."""
    from transformers import TrainerCallback

    class Saver(TrainerCallback):
        def __init__(self) -> None:
            self.trainer: Any = None
            self.due = clock() + watch.save_seconds
            self.asked = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.due = clock() + watch.save_seconds
            if carry is not None:
                _restore(self.trainer, carry)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            last = state.global_step >= state.max_steps
            by_step = watch.save_steps is not None and state.global_step % watch.save_steps == 0
            control.should_log = control.should_log or last
            control.should_save = not last and agreed(watch.here, by_step or clock() >= self.due)
            self.asked = clock()

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.due = clock() + max(watch.save_seconds, OVERHEAD * (clock() - self.asked))

    return Saver()


def _restore(trainer: Any, carry: dict[str, Any]) -> None:
    import torch

    trainer._metrics["train"].update({name: list(values) for name, values in carry["metrics"].items()})  # noqa: SLF001
    trainer._tr_loss = torch.tensor(carry["loss"], device=trainer.args.device)  # noqa: SLF001
    trainer._globalstep_last_logged = carry["logged"]  # noqa: SLF001
    trainer.watch.seen_tokens, trainer.watch.seen_trained = carry["tokens"], carry["trained"]


def _carry(folder: Path, fingerprint: str, rank: int) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / COMPLETE).read_text())
        sizes = {name: (folder / name).stat().st_size for name in content["files"]}
        if content["fingerprint"] != fingerprint or sizes != content["files"]:
            return None
        carry: dict[str, Any] = content["carry"][rank]
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return carry
