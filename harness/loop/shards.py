"""The resumable map: item-wise work in fixed shards, each saved whole or done again, by one process or by several.

A shard is the unit of resume. Its members and their order are fixed by the input, so a shard that was interrupted is
redone with the same batch and gives the same bytes. Work that fits one shard is not saved on the way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import LoopbenchError
from harness.store.atomic import write_bytes

T = TypeVar("T")
P = TypeVar("P", bound=Sized)
Progress = Callable[[int, int], None]


class Over(LoopbenchError):
    """Nobody needs the shard in work any more."""


class Claims:
    """Which shards of a stage are being worked on: byte i of one file is locked by the process that does shard i.

    The lock is the operating system's, so a shard whose process died is free at once.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    @contextmanager
    def of(self, shard: int) -> Iterator[None]:
        """Holds a shard while the body runs; waits for it where another process has it."""
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, shard)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, shard)

    @contextmanager
    def free(self, shard: int) -> Iterator[bool]:
        """The same without waiting: False where another process has the shard."""
        import fcntl

        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, shard)
        except (BlockingIOError, PermissionError):
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, shard)

    def close(self) -> None:
        """Lets everything go; the object cannot be used afterwards."""
        os.close(self._file)


def resumable_map(
    items: Sequence[T],
    size: int,
    folder: Path,
    run: Callable[[Sequence[T]], dict[str, Any]],
    progress: Progress = lambda done, total: None,
) -> Iterator[dict[str, Any]]:
    """Yields `run(shard)` for each shard of `size` items, in order; finished shards are read back instead.

    `run` returns a JSON document. `folder` keeps finished shards until the stage is done.
    """
    parts = (items[start : start + size] for start in range(0, len(items), size))
    for _, result in resumable_parts(parts, len(items), folder, str(size), run, progress):
        yield result


def resumable_parts(
    parts: Iterable[P],
    total: int,
    folder: Path,
    name: str,
    run: Callable[[P], dict[str, Any]],
    progress: Progress = lambda done, total: None,
    claims: Claims | None = None,
) -> Iterator[tuple[P, dict[str, Any]]]:
    """The same for parts that come one by one, such as those of a long table; each comes back with its result.

    `total` counts the members of all parts. `name` says what the shards are of: parts of another size, or of another
    form, need another one. With `claims`, other processes may be at some (`share_parts`): those are waited for.
    """
    done = 0
    for index, part in enumerate(parts):
        path = _path(folder, name, index)
        with nullcontext() if claims is None or path.exists() else claims.of(index):
            if path.exists():
                result: dict[str, Any] = json.loads(path.read_bytes())
            else:
                result = run(part)
                if len(part) < total:
                    _save(path, result)
        yield part, result
        done += len(part)
        progress(done, total)


def share_parts(
    parts: Iterable[P],
    folder: Path,
    name: str,
    run: Callable[[P], dict[str, Any]],
    claims: Claims,
    over: Callable[[], bool],
    told: Callable[[int], None] = lambda members: None,
) -> int:
    """Does those parts of `resumable_parts` that nobody has done and nobody is at; several processes may at once.

    `over` is asked before each part whether there is no stage any more that it is for: it is finished and its shards
    are cleared away, or its own worker is gone. `run` may raise `Over` for the same reason, and then saves nothing.
    `told` hears the number of members of each part that is done, here or elsewhere. Returns how many parts were done
    here.
    """
    made = 0
    for index, part in enumerate(parts):
        path = _path(folder, name, index)
        if not path.exists():
            with claims.free(index) as mine:
                if not mine:
                    continue
                if not path.exists():
                    if over():
                        break
                    try:
                        result = run(part)
                    except Over:
                        break
                    _save(path, result)
                    made += 1
        told(len(part))
    return made


def _path(folder: Path, name: str, index: int) -> Path:
    return folder / f"{name}-{index:05d}.json"


def _save(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(result, ensure_ascii=False).encode())
