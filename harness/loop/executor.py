"""Where stages run. An executor takes ready stages and reports what became of them; it decides nothing else.

`Executor` is the protocol that a cluster scheduler would implement too; `LocalExecutor` is worker processes on this
machine, one per device, that live across stages so that imports and device start-up are paid once.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from harness.loop import forked, worker
from harness.loop.devices import visible_devices
from harness.loop.order import model_of
from harness.loop.sharing import Help
from harness.loop.stage import Stage
from harness.store.home import Home

Message = tuple[Any, ...]


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


@runtime_checkable
class Helps(Protocol):
    """An executor whose free places can do shards of a stage that another place is at."""

    def help(self, place: int, stage: Stage) -> None: ...

    def free(self) -> list[int]: ...


@dataclass
class _Place:
    number: int
    process: BaseProcess
    connection: Connection
    keys: set[str] = field(default_factory=set)
    """Of the stages that it was given and that are not over."""
    model: str | None = None
    helping: str | None = None
    """Key of another place's stage that it does shards of."""


@dataclass
class LocalExecutor:
    """Worker processes on this machine."""

    home: Home
    workers: int
    threads: int = 1
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    """Names this run of an experiment."""
    profile: Path | None = None
    """The folder in which workers write down how they spend their time; None where no profile is taken."""
    _places: dict[int, _Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number in range(self.workers):
            self._places[number] = self._start(number)

    def free(self) -> list[int]:
        return [n for n, place in self._places.items() if not place.keys and place.helping is None]

    def last_model(self, place: int) -> str | None:
        return self._places[place].model

    def submit(self, place: int, stages: Sequence[Stage]) -> int:
        at = self._places[place]
        at.keys, at.model = {stage.key for stage in stages}, model_of(stages[0])
        with suppress(BrokenPipeError, ConnectionResetError):  # it died while idle: `events` reports it
            at.connection.send(list(stages))
        return at.process.pid or 0

    def help(self, place: int, stage: Stage) -> None:
        """Lets a free place do shards of a stage that another is at; it is free again when there are none left."""
        at = self._places[place]
        at.helping, at.model = stage.key, model_of(stage)
        with suppress(BrokenPipeError, ConnectionResetError):
            at.connection.send(Help(stage))

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
            if message[0] == "helped":
                place.helping = None
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
        context = forked.context(self.threads)
        ours, theirs = context.Pipe()
        devices = visible_devices()
        own = _share(devices, number, self.workers)
        setup = worker.Setup(
            self.home,
            self.threads,
            own,
            run=self.run,
            profile=self.profile,
            name=f"worker {number + 1}",
            sharers=_sharers(devices, number, self.workers),
        )
        process = context.Process(target=worker.main, args=(theirs, setup), name=f"loopbench-worker-{number}")
        process.start()
        theirs.close()
        return _Place(number, process, ours)

    def _died(self, place: _Place) -> Iterator[Message]:
        place.process.join()
        place.connection.close()
        self._places[place.number] = self._start(place.number)
        for key in sorted(place.keys):
            yield ("died", key, place.process.exitcode)


def _share(devices: Sequence[str], number: int, workers: int) -> str | None:
    """The devices of one worker, as CUDA_VISIBLE_DEVICES names them: an even share of all, at least one."""
    if not devices:
        return None
    return ",".join(devices[number::workers]) or devices[number % len(devices)]


def _sharers(devices: Sequence[str], number: int, workers: int) -> int:
    """How many workers have the devices of one: more than itself where there are fewer devices than workers."""
    return len(range(number % len(devices), workers, len(devices))) if len(devices) < workers and devices else 1
