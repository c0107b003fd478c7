"""The work of stages that make models: a scratch student, a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import cast

from harness.blocks import kinds
from harness.errors import StageFailed
from harness.finetune._points import POINTS
from harness.loop import memory
from harness.loop.desk import MODEL, located
from harness.loop.devices import visible_devices
from harness.loop.job import Job, Result
from harness.loop.stage import Stage


def scratch(job: Job) -> Result:
    with job.timer("import"):
        from harness.engines import scratch

    def texts() -> Iterator[str]:
        for row in job.rows():
            yield from (m["content"] for m in row.messages)

    with job.timer("trainer"):
        scratch.build(job.folder / MODEL, texts=texts(), **job.stage.data)
    return {"keep": (MODEL,), "rows": 0}


def finetune(job: Job) -> Result:
    stage, block = job.stage, cast(kinds.Trainer, job.stage.block)
    models = {option: located(job.store, stage.models[role]).path for option, role in stage.roles.items()}
    job.engines.free(everything=bool(visible_devices()))  # a training needs the whole device
    with job.timer("import"):
        from trl import DPOTrainer, SFTTrainer  # noqa: F401 - the slow part of starting a training
    (job.folder / "checkpoints").mkdir(exist_ok=True)
    context = kinds.TrainContext(
        start=_path(models["start"], stage),
        reference=models.get("reference"),
        out=job.folder / MODEL,
        work=job.folder / "checkpoints",
        seed=stage.seed or 0,
        device=stage.models[stage.roles["start"]].spec.device,
        threads=job.threads,
        progress=lambda step, total, metrics: job.progress(step, total),
    )
    with job.timer("trainer"):
        report = block.train(job.rows(), context)
        memory.give_back()  # a trainer's model and optimizer hang in circles: to let go of them is its last work
    job.cost.update(train_tokens=report.train_tokens, loss_tokens=report.loss_tokens)
    job.share = 1 - int(report.runtime.get("resumed_from_step", 0)) / max(1, report.steps)
    kept = (MODEL, POINTS) if (job.folder / POINTS).is_dir() else (MODEL,)
    # Processes of its own on several devices: what they take together is not known here.
    apart = {"memory": None} if getattr(block, "devices", 1) > 1 else {}
    return {"keep": kept, "rows": report.rows, "report": asdict(report)} | apart


def _path(path: Path | None, stage: Stage) -> Path:
    if path is None:
        raise StageFailed(f"{stage.label} cannot train a model that has no folder (a served one)")
    return path
