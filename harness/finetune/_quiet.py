"""The surroundings of a training: its threads, and libraries that neither print nor show bars."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def surroundings(threads: int) -> Iterator[None]:
    """Sets torch's threads and silences transformers and datasets; puts everything back at the end.

    Objects that are alive before a training outlive it, so the garbage collector is told to leave them out: Trainer
    collects several times per call, and walking through the libraries' half a million objects costs 0.3 s each time.
    """
    import datasets
    import torch
    from transformers.utils import logging

    before, level, bars = torch.get_num_threads(), logging.get_verbosity(), logging.is_progress_bar_enabled()
    data_bars = datasets.are_progress_bars_disabled()
    torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    scored_only = _head_of_trained_positions()
    freeze = gc.get_freeze_count() == 0  # what another part of the process froze is not ours to release
    if freeze:
        gc.freeze()
    try:
        yield
    finally:
        if freeze:
            gc.unfreeze()
        scored_only()
        torch.set_num_threads(before)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if not data_bars:
            datasets.enable_progress_bars()


def _head_of_trained_positions() -> Callable[[], None]:
    """Has TRL's fused head score the trained positions only on a CPU as well; returns what undoes it.

    TRL does so where Triton is; elsewhere it scores every position, to spare other accelerators changing shapes. On a
    CPU that costs a tenth of a step of a small model. Where another TRL has no such switch, nothing changes.
    """
    from trl.trainer import utils

    switch = getattr(utils, "_use_triton", None)
    if switch is None:
        return lambda: None
    utils._use_triton = lambda device: device.type == "cpu" or switch(device)  # noqa: SLF001

    def undo() -> None:
        utils._use_triton = switch  # noqa: SLF001

    return undo
