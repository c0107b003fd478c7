"""Processes that end with the process that started them, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def tie_to(parent: int) -> None:
    """Ends this process when its parent process ends; at once where `parent` is its parent no more.

    By the kernel on Linux, which goes by the thread that started this process; elsewhere only what is over already is
    seen.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
