"""Slices of time that a process writes down while a profile is taken, in a file of its own.

Every process of a run (the coordinator, workers, the one that writes MLflow) appends lines of JSON to its own file in
one folder, so a killed process loses only what it had not flushed; `harness.loop.profile` puts the files together.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.clock import Timer

SHORTEST = 1e-4
"""Seconds; shorter slices are summed into the stage's figures, but not drawn."""
ENVIRONMENT = "LOOPBENCH_PROFILE"
"""Names the folder to processes that are started by command line."""


class Slices:
    """The slices of this process. Times are unix seconds; the monotonic clock is tied to them once."""

    def __init__(self, folder: Path, process: str, pid: int | None = None) -> None:
        """`process` is the name of the track: `coordinator`, `worker 1`, `MLflow`; `pid`, if it is not this one."""
        self._to_unix = time.time() - time.perf_counter()
        pid = pid or os.getpid()
        self._file = (folder / f"{pid}.jsonl").open("a")
        self._write({"process": process, "pid": pid, "start": time.time()})

    def add(self, name: str, begin: float, seconds: float, **about: Any) -> None:
        """One slice; `begin` is a reading of `time.perf_counter`, `about` is shown beside it."""
        if (seconds >= SHORTEST or about) and name != "other":
            self._write({"name": name, "begin": self._to_unix + begin, "seconds": seconds, "about": about})

    def flush(self) -> None:
        """Hands what was noted to the system, so that it outlives this process."""
        self._file.flush()

    def summary(self, report: Mapping[str, float]) -> None:
        """Where the whole life of the process went, without the work on stages; the last summary counts."""
        self._write({"summary": dict(report), "end": time.time()})
        self.flush()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


class Life:
    """The life of a process in a profile: its own timer, and a summary of it at the end. Without a folder, nothing."""

    def __init__(self, folder: Path | None, process: str) -> None:
        self.slices = None if folder is None else Slices(folder, process)
        self.timer = Timer(self.slices)

    @contextmanager
    def __call__(self) -> Iterator[Life]:
        """Measures what is timed in the body."""
        if self.slices is None:
            yield self
            return
        try:
            with self.timer.active():
                yield self
        finally:
            self.slices.summary(self.timer.report())

    @contextmanager
    def work(self, name: str, **about: Any) -> Iterator[dict[str, Any]]:
        """A slice of work that is told apart in the profile, such as a stage; the body may add to what it gets."""
        if self.slices is None:
            yield about
            return
        begin = time.perf_counter()
        try:
            with self.timer("stages"):
                yield about
        finally:
            self.slices.add(name, begin, time.perf_counter() - begin, **about)
            self.slices.flush()


def folder_of_environment() -> Path | None:
    """Where a profile is being taken, if it is."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else None
