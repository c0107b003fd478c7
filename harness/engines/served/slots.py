"""Places for calls under way, shared by all processes that use one home.

A place is a file whose lock is held while a call is under way. The operating system frees the places of a process that
dies, so a limit holds across workers, commands and kills without anybody counting.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_POLL = 0.02
"""Seconds between looks while other processes hold all places."""


class Slots:
    """Up to `count` places. For one event loop."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [os.open(folder / f"{number:03d}", os.O_RDWR | os.O_CREAT, 0o644) for number in range(count)]
        self._idle = list(range(count))
        """Places that this process does not hold; the one it held last comes last, and is tried first."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds a place while the body runs."""
        while (number := self._take()) is None:
            await asyncio.sleep(_POLL * random.uniform(0.5, 1.5))
        try:
            yield
        finally:
            fcntl.flock(self._files[number], fcntl.LOCK_UN)
            self._idle.append(number)

    def close(self) -> None:
        """Lets everything go."""
        while self._files:
            os.close(self._files.pop())

    def _take(self) -> int | None:
        for at in reversed(range(len(self._idle))):
            try:
                fcntl.flock(self._files[self._idle[at]], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return self._idle.pop(at)
        return None
