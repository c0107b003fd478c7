"""The append-only record of what happened to an experiment: one JSON event per line, flushed to disk.

Only the coordinator writes, under the experiment's lease. A line that was torn by a crash is cut off when the journal
is opened; its event is owed, and the artifacts in the store decide what is done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.clock import timed
from harness.errors import UserError


class Journal:
    """An open journal. Use as a context manager."""

    def __init__(self, path: Path, clock: Any = time.time) -> None:
        self.path = path
        self._clock = clock
        _cut_torn_line(path)
        self._file = path.open("ab")

    @timed("journal")
    def write(self, event: str, **data: Any) -> None:
        """Appends one event with the time of the clock (unix seconds)."""
        line = json.dumps({"event": event, "time": self._clock(), **data}, ensure_ascii=False)
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path}: {len(line):,} bytes could not be written ({error.strerror}); finished work is kept: "
                "free the disk, then run the same command again"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Events in order; a torn last line is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            file.truncate(whole)
