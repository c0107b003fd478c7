"""A training on several devices: `accelerate launch` starts one process per device and is waited for.

The processes get the block, its context and its rows from files in the work folder, write their checkpoints beside them
and hand back the report of a training in one process. The launcher is killed with this process, its processes with the
launcher, by the kernel's parent-death signal; on systems without it, they stop at the step after.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StageFailed, UserError
from harness.finetune._world import RANKS, world

if TYPE_CHECKING:
    from harness.blocks.kinds import TrainContext, TrainReport
    from harness.finetune._options import Tuning
    from harness.records.example import Example

_LOOK = 0.1
_TAIL = 2000
_GRACE = 15.0


def spreads(block: Tuning) -> bool:
    """True where a training has to be launched: it wants several devices, and this is not one of its processes."""
    return block.devices > 1 and world().size == 1


def launched(block: Tuning, rows: Iterable[Example], context: TrainContext) -> TrainReport:
    """Trains in `block.devices` processes.

    Raises:
        UserError: there are not so many devices, or one of the processes refuses an option.
        StageFailed: a process failed; the message is its own, or the end of what it wrote.
    """
    _check_devices(block, context)
    folder = context.work / "ranks"
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    with (folder / "rows").open("wb") as file:
        for row in rows:
            pickle.dump(row, file)
    (folder / "task").write_bytes(pickle.dumps((block, replace(context, progress=None))))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command(block.devices, folder),
            env=_environment(context),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _follow(process, folder / "progress", context)
        finally:
            _end(process)
    return _report(folder, process.returncode)


def command(devices: int, folder: Path) -> list[str]:
    """The command line: accelerate's launcher, in one process that is tied to this one."""
    return [
        sys.executable, "-m", "harness.finetune._ranks", str(os.getpid()),
        "--multi_gpu", "--num_processes", str(devices), "--num_machines", "1", "--main_process_port", "0",
        "--mixed_precision", "no", "--dynamo_backend", "no",
        "--module", "harness.finetune._ranks", str(folder),
    ]  # fmt: skip


def _environment(context: TrainContext) -> dict[str, str]:
    from harness.engines.loading import device_of

    cpu = {"ACCELERATE_USE_CPU": "true"} if device_of(context.device).type == "cpu" else {}
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = str(context.threads)
    return {**os.environ, RANKS: "1", "OMP_NUM_THREADS": threads, "PYTHONPATH": path, **cpu}


def _check_devices(block: Tuning, context: TrainContext) -> None:
    import torch

    from harness.engines.loading import device_of

    device = device_of(context.device)
    if device.type == "cpu" and block.sharding == "fsdp":
        raise UserError(
            f"{block.name} cannot share a model out between processes on a CPU: accelerate does so on GPUs only. Write "
            f"sharding: ddp"
        )
    there = torch.cuda.device_count() if device.type == "cuda" else block.devices
    if there < block.devices:
        raise UserError(
            f"{block.name} wants {block.devices} devices and this worker has {there}: set CUDA_VISIBLE_DEVICES to as "
            f"many, start fewer workers (they share the devices), or lower `devices`"
        )


def _follow(process: subprocess.Popen[bytes], file: Path, context: TrainContext) -> None:
    """Passes on the steps that the first process reports, until the launcher ends."""
    read = 0
    while True:
        ended = process.poll() is not None
        for line in _lines(file, read):
            read += len(line)
            step, steps, metrics = json.loads(line)
            if context.progress is not None:
                context.progress(step, steps, metrics)
        if ended:
            return
        time.sleep(_LOOK)


def _lines(file: Path, start: int) -> list[bytes]:
    """Whole lines of a growing file from a byte on."""
    try:
        with file.open("rb") as opened:
            opened.seek(start)
            return [line for line in opened if line.endswith(b"\n")]
    except FileNotFoundError:
        return []


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the launcher and what it started, where it has not ended by itself."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _report(folder: Path, code: int) -> TrainReport:
    for file in sorted(folder.glob("error-*"), key=lambda file: file.stat().st_mtime_ns):  # the others follow the first
        error: Exception = pickle.loads(file.read_bytes())  # noqa: S301 our own process wrote it
        raise error
    report = folder / "report"
    if code or not report.is_file():
        text = (folder / "log").read_text(errors="replace").strip()[-_TAIL:]
        raise StageFailed(
            f"a process of the training ended with {code}; its checkpoints are kept, and the same command goes on from "
            f"them. It wrote last: {text or 'nothing'}"
        )
    found: Any = pickle.loads(report.read_bytes())  # noqa: S301 our own process wrote it
    answer: TrainReport = found
    return answer
