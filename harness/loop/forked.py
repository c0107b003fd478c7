"""Workers as forks of one process that has imported the libraries: importing is paid once, not by each worker.

Python's own fork server (`multiprocessing`, start method `forkserver`) does it. It never opens a model and runs
nothing on several threads, so its forks are sound. With CUDA devices workers are started anew instead: a library that
looked for devices while it was imported would leave its forks without them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext

from harness.loop import preload
from harness.loop.devices import visible_devices

KILLED_QUIETLY = "ignore:resource_tracker:UserWarning"
"""A killed worker leaves the locks of its libraries to Python's tracker process, which need not tell the user."""


_begun: dict[str, str] = {}
"""The environment with which this process's server was started; what it imported may hang on it."""


def possible() -> bool:
    """Whether workers may be forks here."""
    return sys.platform == "linux" and not visible_devices() and _begun in ({}, dict(os.environ))


def begin(threads: int = 1) -> None:
    """Starts the server, which imports while the caller goes on; does nothing where it runs or is not possible."""
    if not possible():
        return
    os.environ.setdefault("PYTHONWARNINGS", KILLED_QUIETLY)
    _begun.update(os.environ)
    count = str(threads)
    given = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    given |= {"TOKENIZERS_PARALLELISM": "false", preload.SERVER: str(os.getpid())}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)  # libraries read these when they are imported, and the server takes on what is set now
    try:
        multiprocessing.set_forkserver_preload([preload.__name__])
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def context(threads: int) -> SpawnContext | ForkServerContext:
    """How worker processes are started."""
    if not possible():
        os.environ.setdefault("PYTHONWARNINGS", KILLED_QUIETLY)
        return multiprocessing.get_context("spawn")
    begin(threads)
    return multiprocessing.get_context("forkserver")
