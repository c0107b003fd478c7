"""A worker process: imports torch once, keeps engines open between stages, and dies with its coordinator.

Messages to a worker: a list of stages (one, or several `answer` stages of one model, which it does as one stream), or
None to end. Messages back, for each stage: `("progress", key, done, total)`, `("done", key, manifest)`,
`("failed", key, family, message, traceback)`. The worker commits the artifact; the coordinator only notes that it did.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from harness.engines.vllm.installed import build
from harness.errors import LimitReached, LoopbenchError, Transient, UserError
from harness.lifeline import tie_to
from harness.loop import memory, preload
from harness.loop.clock import Timer, shared
from harness.loop.desk import Engines
from harness.loop.provenance import provenance
from harness.loop.sharing import Help
from harness.loop.slices import Life, Slices
from harness.loop.stage import Stage
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.store.locks import lease


@dataclass(frozen=True)
class Setup:
    """How a worker runs: where the store is, how many threads, which devices."""

    home: Home
    threads: int
    devices: str | None = None
    run: str | None = None
    """Names the run that the worker belongs to."""
    profile: Path | None = None
    """Where this worker writes down how it spends its time; None where no profile is taken."""
    name: str = "worker"
    sharers: int = 1
    """Workers that use these devices, with this one."""


def main(connection: Connection, setup: Setup) -> None:
    """The life of a worker."""
    settle(setup)
    store = Store(setup.home)
    engines = Engines(store, setup.threads, workers=setup.sharers)
    with Life(setup.profile, setup.name)() as life:
        _preloaded(setup)
        try:
            while (stages := _next(connection, life)) is not None:
                if isinstance(stages, Help):
                    _help(connection, stages.stage, store, engines, setup, life)
                else:
                    _together(connection, stages, store, engines, setup, life)
        except EOFError:  # the coordinator is gone
            pass
        finally:
            engines.close()


def _preloaded(setup: Setup) -> None:
    """Tells a profile what the server did before this process was forked from it; the first worker says it."""
    if setup.profile is not None and preload.seconds is not None and setup.name.endswith(" 1"):
        server = Slices(setup.profile, "worker server", os.getppid())
        server.add("import", preload.begun, preload.seconds)
        server.flush()


def _next(connection: Connection, life: Life) -> Sequence[Stage] | Help | None:
    with life.timer("waiting"):
        stages: Sequence[Stage] | Help | None = connection.recv()
    return stages


def settle(setup: Setup) -> None:
    """Makes this process one that ends with its coordinator and uses the threads and devices that it was given."""
    _tie_to_coordinator()
    _environment(setup)


def _tie_to_coordinator() -> None:
    """Ends this process when the coordinator ends, however it ends; Ctrl-C is the coordinator's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tie_to(os.getppid())  # the coordinator, or the server that this was forked from, which is tied to it
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    coordinator = parent_process()
    if coordinator is not None:
        wait([coordinator.sentinel])  # readable once the coordinator is gone
    os._exit(1)


def _environment(setup: Setup) -> None:
    threads = str(setup.threads)
    os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if setup.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.devices


def _help(connection: Connection, stage: Stage, store: Store, engines: Engines, setup: Setup, life: Life) -> None:
    """Does shards of a stage that another worker is at. A failure is that worker's to meet and to tell."""
    made, why = 0, ""
    try:
        with life.work(f"helping {stage.label}", action=stage.action, block=stage.name, stages=0) as noted:
            timer = Timer(life.slices)
            with timer.active():
                from harness.loop.job import Job
                from harness.loop.scorework import help_score

                made = help_score(Job(stage, store, engines, timer, lambda done, total: None, threads=setup.threads))
            noted["layers"] = timer.report()
    except Exception as error:  # noqa: BLE001 - recorded, and met again where the stage is worked on
        why = _family(error)[1]
    connection.send(("helped", stage.key, made, why))


def _together(
    connection: Connection,
    stages: Sequence[Stage],
    store: Store,
    engines: Engines,
    setup: Setup,
    life: Life | None = None,
) -> None:
    """Works on stages that were sent together, under the lease of each; what is done already is only reported."""
    life = life or Life(None, setup.name)
    try:
        with ExitStack() as leases:
            for stage in sorted(stages, key=lambda s: s.key):  # always in one order, or two workers could block
                leases.enter_context(lease(setup.home.locks, stage.key, f"stage {stage.label}", timeout=24 * 3600))
            left = [stage for stage in stages if not store.done(stage.kind, stage.key)]
            if all(store.prepared(stage.kind, stage.key) for stage in left):
                for stage in left:
                    store.recover(stage.kind, stage.key)
                left = []
            for stage in stages:
                if stage not in left:
                    connection.send(("done", stage.key, store.manifest(stage.kind, stage.key)))
            for part in _attempt(connection, left, store, engines, setup, life):
                _attempt(connection, part, store, engines, setup, life)
    except Exception as error:  # noqa: BLE001 - a lease that could not be had
        for stage in stages:
            _tell(connection, stage, error)


def _attempt(
    connection: Connection, stages: Sequence[Stage], store: Store, engines: Engines, setup: Setup, life: Life
) -> list[Sequence[Stage]]:
    """Does the stages as one; where that fails, returns them one by one, so that each fails or not for itself."""
    if not stages:
        return []
    again: list[Sequence[Stage]] = []
    try:
        about = {"action": stages[0].action, "block": stages[0].name, "stages": len(stages)}
        with life.work(stages[0].label, **about) as noted:
            timer = Timer(life.slices)
            with timer.active():
                manifests = _work(connection, stages, store, engines, setup, timer)
            noted["layers"] = timer.report()
        for stage, manifest in zip(stages, manifests, strict=True):
            connection.send(("done", stage.key, manifest))
        return again
    except Exception as error:  # noqa: BLE001 - the stage border: recorded with its family
        if len(stages) > 1 and not isinstance(error, Transient | LimitReached):
            again = [(stage,) for stage in stages]
        else:
            for stage in stages:
                _tell(connection, stage, error)
    if any(map(_loads, stages)):
        memory.give_back()  # only here: as long as the error is at hand, its frames hold the model
    return again


def _tell(connection: Connection, stage: Stage, error: Exception) -> None:
    family, text = _family(error)
    connection.send(("failed", stage.key, family, text, traceback.format_exc()))


def _family(error: Exception) -> tuple[str, str]:
    """Who is to blame, and the sentence: a full or read-only disk is the machine's, whatever library met it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        where = error.filename or "the store"
        advice = "free or unlock the disk, then run the same command again"
        return "user", f"{where} could not be written ({error.strerror}): {advice}"
    families = {"limit": LimitReached, "transient": Transient, "user": UserError, "stage": LoopbenchError}
    for family, kind in families.items():
        if isinstance(error, kind):
            return family, str(error)
    return "bug", f"{error}" or type(error).__name__


def _work(
    connection: Connection, stages: Sequence[Stage], store: Store, engines: Engines, setup: Setup, timer: Timer
) -> list[dict[str, Any]]:
    """Does the stages and commits them; returns their manifests, aligned.

    Their timing says besides what the commit took, and once for all workers the imports of the server they came from.
    """
    from harness.loop.work import Job, run, run_together

    opened = engines.opened
    memory.forget_peak(engines.begin())
    if any(stage.action == "scratch" or _loads(stage) for stage in stages):
        with timer("import"):
            import torch

            torch.set_num_threads(setup.threads)
    jobs = [
        Job(stage, store, engines, timer, _progress(connection, stage), threads=setup.threads, run=setup.run)
        for stage in stages
    ]
    reports = [run(jobs[0])] if len(jobs) == 1 else run_together(jobs)
    worked, most, notes = timer.report(), _peak(engines), engines.notes()
    timings = shared(worked, [1 + job.cost["generated_tokens"] + job.cost["scored_tokens"] for job in jobs])
    found = []
    for number, (stage, (keep, result), timing) in enumerate(zip(stages, reports, timings, strict=True)):
        opens = 0 if number else engines.opened - opened
        about = {"timing": timing, "opened": opens, "together": len(stages), "memory": result.get("memory", most)}
        about |= {"threads": setup.threads} | ({"engine_notes": notes} if notes else {})
        found.append((stage, store.prepare(stage.kind, stage.key, keep, provenance(stage) | result | about)))
    for stage, _ in found:  # the renames come last, when all is there: a kill between them leaves nothing to redo
        store.recover(stage.kind, stage.key)
    also = {"commit": round((timer.report()["wall"] - worked["wall"]) / len(found), 4)}
    if preload.seconds is not None:
        also["preload"] = round(preload.seconds, 4)
    return [manifest | {"timing": manifest["timing"] | also} for _, manifest in found]


def _peak(engines: Engines) -> int | None:
    processes = engines.processes()
    return memory.peak(processes, gpu=bool(processes) and build() != "cpu")


def _loads(stage: Stage) -> bool:
    """Whether a model is loaded here: a served one runs elsewhere, and the hashed embedder is none."""
    return any(binding.spec.engine not in ("openai", "hashed") for binding in stage.models.values())


def _progress(connection: Connection, stage: Stage) -> Callable[[int, int], None]:
    return lambda done, total: connection.send(("progress", stage.key, done, total))
