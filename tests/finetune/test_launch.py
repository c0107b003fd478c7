"""A training on several devices, by a real `accelerate launch` of two processes on the CPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from tuning import examples

from harness.blocks.kinds import TrainContext, TrainReport
from harness.errors import StageFailed, UserError
from harness.finetune import _launch
from harness.finetune._batches import Order
from harness.finetune._run import imports
from harness.finetune._setup import _spread
from harness.finetune._world import Shares, World
from harness.finetune.sft import Sft

Make = Callable[..., TrainContext]
ROWS = examples(21)
"""With batches of four, the last batch of an epoch has one row: one process gets none."""
OPTIONS: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 12, "batch_size": 4, "logging_steps": 4, "save_steps": 10}


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(folder / "model.safetensors")
    return found


def difference(one: Path, other: Path) -> float:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def processes(folder: Path) -> list[psutil.Process]:
    """Processes whose command names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def die(step: int, total: int, metrics: Mapping[str, float]) -> None:
    if step >= 12:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport]:
    """The same training in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "work").mkdir()
    context = TrainContext(start=base, out=folder / "model", work=folder / "work", seed=0, device="cpu")
    return context.out, Sft(**OPTIONS).train(ROWS, context)


@pytest.mark.timeout(900)
def test_two_processes_train_what_one_trains_and_go_on_after_a_kill(
    context: Make, alone: tuple[Path, TrainReport]
) -> None:
    imports()
    block, run, seen = Sft(**OPTIONS, devices=2), context(device="cpu"), []
    doomed = multiprocessing.get_context("fork").Process(target=block.train, args=(ROWS, replace(run, progress=die)))
    doomed.start()
    doomed.join(500)
    assert doomed.exitcode == -signal.SIGKILL
    end = time.monotonic() + 30
    while (left := processes(run.work)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left  # they died with the process that launched them
    assert not run.out.exists()
    report = block.train(ROWS, replace(run, progress=lambda step, total, _: seen.append((step, total))))
    whole, once = alone
    assert int(report.runtime["resumed_from_step"]) >= 10
    assert report.runtime["devices"] == "2 MULTI_CPU"
    assert (report.steps, report.rows) == (once.steps, once.rows) == (72, 21)
    assert (report.train_tokens, report.loss_tokens) == (once.train_tokens, once.loss_tokens)  # each row once an epoch
    assert seen[-1] == (72, 72)
    losses = [[point["loss"] for point in r.history] for r in (report, once)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert difference(run.out, whole) < 1e-4


def test_a_model_is_not_shared_out_on_a_cpu(context: Make) -> None:
    """accelerate leaves it whole there, without a word: so it is refused instead."""
    with pytest.raises(UserError, match="on GPUs only. Write sharding: ddp"):
        Sft(**OPTIONS, devices=2, sharding="fsdp").train(ROWS, context(device="cpu"))


def test_what_a_process_is_told_to_share_out() -> None:
    from trl import SFTConfig

    gpu, one = SimpleNamespace(type="cuda"), World()
    for sharding in ("ddp", "fsdp"):
        block = Sft(batch_size=8, devices=2, sharding=sharding)
        told = _spread(cast(Any, SimpleNamespace(block=block, device=gpu, here=World(1, 2))))
        assert _spread(cast(Any, SimpleNamespace(block=block, device=gpu, here=one))) == {}
        made = SFTConfig(output_dir="unused", use_cpu=True, bf16=False, gradient_checkpointing=False, **told)
        assert (made.fsdp_plugin_args is not None) == (sharding == "fsdp")
        if made.fsdp_plugin_args:
            assert made.fsdp_plugin_args["fsdp_version"] == 2
            assert made.fsdp_plugin_args["state_dict_type"] == "FULL_STATE_DICT"


def test_what_a_process_refuses_is_said_as_if_there_were_one(context: Make) -> None:
    with pytest.raises(UserError, match="TRL's SFTConfig refuses an option"):
        Sft(**OPTIONS | {"optim": "sgdd"}, devices=2).train(ROWS, context(device="cpu"))


def test_a_process_that_ends_without_a_word_is_a_failed_stage(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "command", lambda *_: ["sh", "-c", "echo out of luck; exit 3"])
    with pytest.raises(StageFailed, match="ended with 3; its checkpoints are kept.*It wrote last: out of luck"):
        Sft(**OPTIONS, devices=2).train(ROWS, context(device="cpu"))


def test_a_line_of_progress_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    assert _launch._lines(file, 0) == []
    file.write_bytes(b"[1, 9, {}]\n[2, 9")
    assert _launch._lines(file, 0) == [b"[1, 9, {}]\n"]
    with file.open("ab") as more:
        more.write(b", {}]\n")
    assert _launch._lines(file, 11) == [b"[2, 9, {}]\n"]


def test_batches_are_shared_out_without_a_rest() -> None:
    order = Order([5] * 21, 0, 4, False)
    shares = [Shares(order, 4, World(rank, 2)) for rank in range(2)]
    one, other = (list(part) for part in shares)
    assert len(one) == len(other) == len(shares[0]) == 6
    together = [row for mine, theirs in zip(one, other, strict=True) for row, own, _ in [*mine, *theirs] if own]
    assert sorted(together) == list(range(21))
    rows = list(order)
    for at, (mine, theirs) in enumerate(zip(one[:-1], other[:-1], strict=True)):
        assert {row for row, _, _ in mine + theirs} == set(rows[4 * at : 4 * at + 4])
    assert one[-1] == [(rows[20], 1, 1)]
    assert other[-1] == [(rows[20], 0, 1)]  # takes part in the step, without a loss
    shares[0].set_epoch(1)
    assert list(shares[0]) != one


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_size": 3, "devices": 2}, "batch_size 3 cannot be shared out evenly between 2 devices"),
        ({"sharding": "fsdp"}, "set devices, too"),
        ({"devices": 2, "sharding": "fsdp", "checkpoints": 3}, "sharding: fsdp has none of"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_at_once(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Sft(**options)


def test_too_few_devices_are_refused_before_anything_starts(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="sft wants 4 devices and this worker has 1: set CUDA_VISIBLE_DEVICES"):
        Sft(batch_size=8, devices=4).train(ROWS, context(device="cuda"))
