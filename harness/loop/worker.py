"""A worker process: imports torch once, keeps engines open between stages, and dies with its coordinator.

Messages to a worker: a `Stage`, or None to end. Messages back: `("progress", key, done, total)`,
`("done", key, manifest)`, `("failed", key, family, message, traceback)`. The worker commits
the artifact; the coordinator only notes that it did.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from typing import Any

from harness.errors import LoopbenchError, Transient, UserError
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.stage import Stage
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.store.locks import lease

PACKAGES = ("loopbench", "torch", "transformers", "trl", "peft", "lm-eval", "alpaca-eval")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Setup:
    """How a worker runs: where the store is, how many threads, which devices."""

    home: Home
    threads: int
    devices: str | None = None


def main(connection: Connection, setup: Setup, parent: int) -> None:
    """The life of a worker."""
    _tie_to(parent)
    _environment(setup)
    store = Store(setup.home)
    engines = Engines(store, setup.threads)
    try:
        while (stage := connection.recv()) is not None:
            _one(connection, stage, store, engines, setup)
    except EOFError:  # the coordinator is gone
        pass
    finally:
        engines.close()


def _tie_to(parent: int) -> None:
    """Ends this process when the coordinator ends, however it ends; Ctrl-C is the coordinator's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _environment(setup: Setup) -> None:
    threads = str(setup.threads)
    os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if setup.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.devices


def _one(connection: Connection, stage: Stage, store: Store, engines: Engines, setup: Setup) -> None:
    key = stage.key
    try:
        with lease(setup.home.locks, key, f"stage {stage.label}", timeout=24 * 3600):
            manifest = (
                store.manifest(stage.kind, key)
                if store.done(stage.kind, key) or store.recover(stage.kind, key)
                else _work(connection, stage, store, engines, setup)
            )
        connection.send(("done", key, manifest))
    except Exception as error:  # noqa: BLE001 - the stage border: recorded with its family
        family, text = _family(error)
        connection.send(("failed", key, family, text, traceback.format_exc()))


def _family(error: Exception) -> tuple[str, str]:
    """Who is to blame, and the sentence: a full or read-only disk is the machine's, whatever library met it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        where = error.filename or "the store"
        advice = "free or unlock the disk, then run the same command again"
        return "user", f"{where} could not be written ({error.strerror}): {advice}"
    for family, kind in (("transient", Transient), ("user", UserError), ("stage", LoopbenchError)):
        if isinstance(error, kind):
            return family, str(error)
    return "bug", f"{error}" or type(error).__name__


def _work(connection: Connection, stage: Stage, store: Store, engines: Engines, setup: Setup) -> dict[str, Any]:
    from harness.loop.work import Job, run

    timer = Timer()
    if stage.models or stage.action == "scratch":
        with timer("import"):
            import torch

            torch.set_num_threads(setup.threads)

    def progress(done: int, total: int) -> None:
        connection.send(("progress", stage.key, done, total))

    job = Job(stage, store, engines, timer, progress, threads=setup.threads)
    keep, result = run(job)
    manifest = _about(stage) | result | {"timing": timer.report()}
    return store.commit(stage.kind, stage.key, keep, manifest)


def _about(stage: Stage) -> dict[str, Any]:
    return {
        "label": stage.label,
        "action": stage.action,
        "block": stage.name,
        "version": stage.block.version if stage.block else None,
        "identity": stage.identity(),
        "source_hash": source_hash(stage),
        "versions": {name: _version(name) for name in PACKAGES},
        "dropped": {},
    }


def source_hash(stage: Stage) -> str | None:
    """Hash of the block's source file: a cached artifact made by other code is worth a warning."""
    return None if stage.block is None else _source_hash(type(stage.block))


@cache
def _source_hash(block: type) -> str:
    return hashlib.sha256(inspect.getsource(inspect.getmodule(block) or block).encode()).hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
