"""What SIGINT and SIGTERM do to a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from harness.errors import LoopbenchError


class Interrupted(LoopbenchError):
    """A signal ended the run; finished work is kept."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"interrupted by {signal.Signals(number).name}; finished work is kept, the same command goes on"
        )
        self.exit_code = 128 + number


@contextmanager
def signals() -> Iterator[None]:
    """Turns the first SIGINT or SIGTERM into `Interrupted`; the second ends the process at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, lambda n, f: os._exit(128 + n))
        raise Interrupted(number)

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread (a notebook, a test): signals stay with their owner
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
