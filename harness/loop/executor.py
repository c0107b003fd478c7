"""Where stages run. An executor takes ready stages and reports what became of them; it decides nothing else.

`Executor` is the protocol that a cluster scheduler would implement too; `LocalExecutor` is worker processes on this
machine, one per device, that live across stages so that imports and device start-up are paid once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from harness.loop import worker
from harness.loop.devices import visible_devices
from harness.loop.order import model_of
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

    def submit(self, place: int, stages: Sequence[Stage]) -> int:
        """Starts a stage, or `answer` stages of one model together, in a free place; returns the process id there."""
        ...

    def events(self, timeout: float) -> Iterator[Message]:
        """Messages that arrived, as in `harness.loop.worker`; of a dead worker `("died", key, exit code)` per stage."""
        ...

    def close(self, kill: bool = False) -> None: ...


@dataclass
class _Place:
    number: int
    process: SpawnProcess
    connection: Connection
    keys: set[str] = field(default_factory=set)
    """Of the stages that it was given and that are not over."""
    model: str | None = None


@dataclass
class LocalExecutor:
    """Worker processes on this machine."""

    home: Home
    workers: int
    threads: int = 1
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    """Names this run of an experiment."""
    _places: dict[int, _Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number in range(self.workers):
            self._places[number] = self._start(number)

    def free(self) -> list[int]:
        return [n for n, place in self._places.items() if not place.keys]

    def last_model(self, place: int) -> str | None:
        return self._places[place].model

    def submit(self, place: int, stages: Sequence[Stage]) -> int:
        at = self._places[place]
        at.keys, at.model = {stage.key for stage in stages}, model_of(stages[0])
        with suppress(BrokenPipeError, ConnectionResetError):  # it died while idle: `events` reports it
            at.connection.send(list(stages))
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
                place.keys.discard(message[1])
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
        setup = worker.Setup(self.home, self.threads, devices[number % len(devices)] if devices else None, run=self.run)
        process = context.Process(
            target=worker.main, args=(theirs, setup, os.getpid()), name=f"loopbench-worker-{number}"
        )
        process.start()
        theirs.close()
        return _Place(number, process, ours)

    def _died(self, place: _Place) -> Iterator[Message]:
        place.process.join()
        place.connection.close()
        self._places[place.number] = self._start(place.number)
        for key in sorted(place.keys):
            yield ("died", key, place.process.exitcode)
