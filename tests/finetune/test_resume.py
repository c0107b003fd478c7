"""A training that is killed and run again gives what the uninterrupted one gives: real processes, real SIGKILL."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tuning import examples, pairs, weights

from harness.blocks.kinds import TrainContext, Trainer, TrainReport
from harness.errors import StageFailed
from harness.finetune import _checkpoint
from harness.finetune._batches import Order
from harness.finetune._guards import Watch
from harness.finetune._run import imports
from harness.finetune.dpo import Dpo
from harness.finetune.sft import Sft
from harness.records.example import Example

Make = Callable[..., TrainContext]
COMMON: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 4, "save_steps": 3}
CASES: dict[str, tuple[Trainer, list[Example]]] = {
    "sft": (Sft(**COMMON, logging_steps=4), examples(20)),
    "accumulated": (Sft(**COMMON, logging_steps=2, gradient_accumulation_steps=2, group_by_length=True), examples(26)),
    "lora": (Sft(**COMMON, logging_steps=4, lora={"r": 2, "dropout": 0.3}), examples(20)),
    "dpo": (Dpo(**COMMON, logging_steps=4), pairs(20)),
}


def kill_at(at: int) -> Callable[[int, int, Mapping[str, float]], None]:
    def progress(step: int, total: int, metrics: Mapping[str, float]) -> None:
        if step >= at:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


def killed(block: Trainer, rows: list[Example], context: TrainContext, at: int) -> None:
    """Trains in a process of its own, which dies by SIGKILL at the first logged step from `at` on."""
    imports()  # the child has them by inheritance
    child = multiprocessing.get_context("fork").Process(
        target=block.train, args=(rows, replace(context, progress=kill_at(at)))
    )
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


def numbers(report: TrainReport) -> dict[str, Any]:
    """All that must not depend on an interruption."""
    return {name: value for name, value in vars(report).items() if name not in ("seconds", "runtime", "speed")}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_run_again_is_as_if_never_killed(context: Make, case: str) -> None:
    block, rows = CASES[case]
    whole, torn = context("whole"), context("torn")
    uninterrupted = block.train(rows, whole)
    killed(block, rows, torn, at=8)
    assert not torn.out.exists()
    resumed = block.train(rows, torn)
    assert resumed.runtime["resumed_from_step"] in ("6", "9")
    assert numbers(resumed) == numbers(uninterrupted)
    assert weights(torn.out) == weights(whole.out)


def test_a_torn_checkpoint_is_passed_over(context: Make) -> None:
    block, rows = CASES["sft"]
    whole, torn = context("whole"), context("torn")
    uninterrupted = block.train(rows, whole)
    killed(block, rows, torn, at=12)
    newest = max(torn.work.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    (newest / "optimizer.pt").write_bytes((newest / "optimizer.pt").read_bytes()[:-100])
    resumed = block.train(rows, torn)
    assert int(resumed.runtime["resumed_from_step"]) == int(newest.name.split("-")[1]) - 3
    assert numbers(resumed) == numbers(uninterrupted)
    assert weights(torn.out) == weights(whole.out)


def test_a_full_disk_keeps_the_earlier_checkpoints(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    block, rows = CASES["sft"]
    whole, torn = context("whole"), context("torn")
    uninterrupted = block.train(rows, whole)
    save = torch.save

    def full(value: Any, file: Any, *args: Any, **more: Any) -> None:
        if "checkpoint-6" in str(file) and "rng" in str(file):
            raise RuntimeError("file write failed")
        save(value, file, *args, **more)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StageFailed, match=r"checkpoint-6 could not be written \(file write failed\)"):
        block.train(rows, torn)
    assert [folder.name for folder in torn.work.iterdir()] == ["checkpoint-3"]
    monkeypatch.undo()
    resumed = block.train(rows, torn)
    assert resumed.runtime["resumed_from_step"] == "3"
    assert numbers(resumed) == numbers(uninterrupted)
    assert weights(torn.out) == weights(whole.out)


def test_a_checkpoint_of_another_training_is_not_resumed(context: Make) -> None:
    block, rows = CASES["sft"]
    torn = context("torn")
    killed(block, rows, torn, at=8)
    other = Sft(**COMMON | {"learning_rate": 2e-3}, logging_steps=4).train(rows, torn)
    assert other.runtime["resumed_from_step"] == "0"


def test_two_checkpoints_are_kept_and_carry_their_proof(context: Make) -> None:
    block, rows = CASES["sft"]
    run = context()
    block.train(rows, run)
    kept = sorted(folder.name for folder in run.work.glob("checkpoint-*"))
    assert kept == ["checkpoint-12", "checkpoint-9"]
    proof = json.loads((run.work / "checkpoint-12" / "complete.json").read_text())
    assert {"model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"} <= proof["files"].keys()


def test_a_short_training_writes_no_checkpoint(context: Make) -> None:
    run = context()
    Sft(epochs=1).train(examples(8), run)
    assert list(run.work.iterdir()) == []


def test_fewer_than_two_checkpoints_are_refused() -> None:
    with pytest.raises(ValueError, match="save_total_limit"):
        Sft(save_total_limit=1)


def test_checkpoints_come_by_time_and_less_often_where_they_cost_much() -> None:
    now = 0.0
    watch = Watch([], [], [], Order([], 0, 1, False), "", save_seconds=60.0, save_steps=None)
    saver = _checkpoint.saver(watch, None, clock=lambda: now)
    saver.on_train_begin(None, None, None)

    def asks(at: float, step: int = 1) -> bool:
        nonlocal now
        now = at
        control = SimpleNamespace(should_log=False, should_save=False)
        saver.on_step_end(None, SimpleNamespace(global_step=step, max_steps=100), control)
        return bool(control.should_save)

    assert not asks(59.0)
    assert asks(60.0)
    now = 61.0  # it took a second
    saver.on_save(None, None, None)
    assert not asks(120.0)
    assert asks(121.0)
    now = 131.0  # it took ten
    saver.on_save(None, None, None)
    assert not asks(330.0)
    assert asks(331.0)
    assert not asks(1000.0, step=100)  # the last step is followed by the model itself


def test_nothing_but_whole_folders_survives_a_look(tmp_path: Path) -> None:
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("w")
    _checkpoint.complete(tmp_path / "checkpoint-1", "f", [{"tokens": 5}])
    (tmp_path / "checkpoint-3" / "complete.json").write_text("{")
    assert _checkpoint.newest(tmp_path, "f") == (tmp_path / "checkpoint-1", {"tokens": 5})
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-1"]
