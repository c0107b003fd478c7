"""What the server imports that workers are forked from: the libraries of stages, once for all workers.

Importing it anywhere else does nothing. The server opens no model and runs no thread but that of pyarrow's allocator,
jemalloc, which starts it anew in a fork; so its forks are sound. `freeze` keeps the garbage collector from touching,
and so copying, the pages that the workers share.
"""

from __future__ import annotations

import gc
import os
import time
import warnings
from contextlib import suppress

from harness.lifeline import tie_to

SERVER = "LOOPBENCH_WORKER_SERVER"
"""Set to the coordinator's process id, in the server's environment only."""

begun = time.perf_counter()
seconds: float | None = None
"""When the imports began and what they took; None where nothing was imported ahead."""


def _load() -> None:
    """The slow imports of training, of engines and of tables."""
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
    from trl import DPOTrainer, SFTTrainer  # noqa: F401

    import harness.engines.transformers
    import harness.loop.work  # noqa: F401


def _serve() -> float:
    parent = int(os.environ.pop(SERVER))
    tie_to(parent)
    with warnings.catch_warnings(), suppress(Exception):  # what cannot be imported is the stages' to report
        warnings.simplefilter("ignore")
        _load()
    gc.collect()
    gc.freeze()
    return time.perf_counter() - begun


if SERVER in os.environ:
    seconds = _serve()
