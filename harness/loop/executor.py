"""Where stages run. An executor takes ready stages and reports what became of them; it decides nothing else.

`Executor` is the protocol that a cluster scheduler would implement too; `LocalExecutor` is worker processes on this
machine, one per device, that live across stages so that imports and device start-up are paid once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from harness.loop import worker
from harness.loop.devices import visible_devices
from harness.loop.stage import Stage
from harness.store.home import Home

Message = tuple[Any, ...]
_KILLED_QUIETLY = "ignore:resource_tracker:UserWarning"
"""A killed worker leaves the locks of its libraries to Python's tracker process, which need not tell the user."""


class Executor(Protocol):
    """Runs stages somewhere."""

    def free(self) -> list[int]:
        """Numbers of the places that could take a stage now."""
        ...

    def last_model(self, place: int) -> str | None:
        """The model that is open in a place, so that stages on one model can follow each other."""
        ...

    def submit(self, place: int, stage: Stage) -> int:
        """Starts a stage in a free place; returns the id of the process that works on it."""
        ...

    def events(self, timeout: float) -> Iterator[Message]:
        """Messages that arrived, as in `harness.loop.worker`; a worker that died says `("died", key, exit code)`."""
        ...

    def close(self, kill: bool = False) -> None: ...


@dataclass
class _Place:
    number: int
    process: SpawnProcess
    connection: Connection
    stage: Stage | None = None
    model: str | None = None


@dataclass
class LocalExecutor:
    """Worker processes on this machine."""

    home: Home
    workers: int
    threads: int = 1
    _places: dict[int, _Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number in range(self.workers):
            self._places[number] = self._start(number)

    def free(self) -> list[int]:
        return [n for n, place in self._places.items() if place.stage is None]

    def last_model(self, place: int) -> str | None:
        return self._places[place].model

    def submit(self, place: int, stage: Stage) -> int:
        at = self._places[place]
        at.stage, at.model = stage, model_of(stage)
        with suppress(BrokenPipeError, ConnectionResetError):  # it died while idle: `events` reports it
            at.connection.send(stage)
        return at.process.pid or 0

    def events(self, timeout: float) -> Iterator[Message]:
        by_connection = {place.connection: place for place in self._places.values()}
        for connection in wait(list(by_connection), timeout):
            place = by_connection[connection]  # type: ignore[index]
            try:
                message: Message = place.connection.recv()
            except (EOFError, ConnectionResetError):
                yield from self._died(place)
                continue
            if message[0] in ("done", "failed"):
                place.stage = None
            yield message

    def close(self, kill: bool = False) -> None:
        for place in self._places.values():
            if kill:
                place.process.kill()
            else:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    place.connection.send(None)
        for place in self._places.values():
            place.process.join(timeout=10)
            if place.process.is_alive():
                place.process.kill()
                place.process.join()
            place.connection.close()

    def _start(self, number: int) -> _Place:
        context = multiprocessing.get_context("spawn")
        os.environ.setdefault("PYTHONWARNINGS", _KILLED_QUIETLY)
        ours, theirs = context.Pipe()
        devices = visible_devices()
        setup = worker.Setup(self.home, self.threads, devices[number % len(devices)] if devices else None)
        process = context.Process(
            target=worker.main, args=(theirs, setup, os.getpid()), name=f"loopbench-worker-{number}"
        )
        process.start()
        theirs.close()
        return _Place(number, process, ours)

    def _died(self, place: _Place) -> Iterator[Message]:
        place.process.join()
        stage, code = place.stage, place.process.exitcode
        place.connection.close()
        self._places[place.number] = self._start(place.number)
        if stage is not None:
            yield ("died", stage.key, code)


def model_of(stage: Stage) -> str | None:
    """The model that a stage opens, for keeping stages on one model together."""
    for binding in stage.models.values():
        return binding.stage or binding.spec.revision
    return None
