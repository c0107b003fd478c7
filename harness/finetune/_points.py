"""Models along a training: kept at equal distances, so that one of them can be chosen on the dev split afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StageFailed
from harness.finetune._models import load_model, save_model, writing

if TYPE_CHECKING:
    from harness.finetune._setup import Opened

POINTS = "points"
"""Folder beside the tuned model with `1`, `2`, ... up to the last but one; the last is the tuned model itself."""
_ADAPTER = "adapter"


def due(total: int, count: int) -> dict[int, list[int]]:
    """Step to the points that it is: `count` points at equal distances over `total` steps, without the last.

    A training with fewer steps than points gives several points at one step.
    """
    found: dict[int, list[int]] = {}
    for number in range(1, count):
        found.setdefault(-(-total * number // count), []).append(number)
    return found


def keeper(opened: Opened) -> Any:
    """The callback that writes a model at each point."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        def __init__(self) -> None:
            self.trainer: Any = None

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not opened.here.first:
                return
            for number in due(state.max_steps, opened.block.checkpoints).get(state.global_step, ()):
                _keep(opened, self.trainer.accelerator.unwrap_model(self.trainer.model), number)

    return Keeper()


def _keep(opened: Opened, model: Any, number: int) -> None:
    folder = place(opened.context.out, number)
    if hasattr(model, "merge_and_unload"):  # merging would change the model that is trained: adapters now, merged later
        half = folder.with_name(f".{folder.name}.tmp")
        with writing(half):
            shutil.rmtree(half, ignore_errors=True)
            model.save_pretrained(half / _ADAPTER)
            shutil.rmtree(folder, ignore_errors=True)
            half.rename(folder)
        return
    save_model(model, opened.chat, opened.context.start, folder)
    model.config.use_cache = False  # as training has it


def finish(opened: Opened) -> None:
    """Makes whole models of adapters.

    Raises:
        StageFailed: a point is missing, which cannot be in a training that went on from its own work folder.
    """
    from peft import PeftModel

    for number in range(1, opened.block.checkpoints):
        folder = place(opened.context.out, number)
        if (folder / _ADAPTER).is_dir():
            model = PeftModel.from_pretrained(load_model(opened.context.start, opened.block), folder / _ADAPTER)
            save_model(model, opened.chat, opened.context.start, folder)
        elif not folder.is_dir():
            raise StageFailed(
                f"the model at point {number} of {opened.block.checkpoints} was not kept: remove {opened.context.work} "
                "and run the same command again"
            )


def place(out: Path, number: int) -> Path:
    """The folder of a point."""
    return out.with_name(POINTS) / str(number)
