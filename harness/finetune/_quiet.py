"""The surroundings of a training: its threads, and libraries that neither print nor show bars."""

from __future__ import annotations

import gc
from collections.abc import Iterator
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
    freeze = gc.get_freeze_count() == 0  # what another part of the process froze is not ours to release
    if freeze:
        gc.freeze()
    try:
        yield
    finally:
        if freeze:
            gc.unfreeze()
        torch.set_num_threads(before)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if not data_bars:
            datasets.enable_progress_bars()
