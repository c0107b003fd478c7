"""The resumable map: item-wise work in fixed shards, each saved whole or done again.

A shard is the unit of resume. Its members and their order are fixed by the input, so a shard that was interrupted is
redone with the same batch and gives the same bytes. Work that fits one shard is not saved on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, TypeVar

from harness.store.atomic import write_bytes

T = TypeVar("T")
P = TypeVar("P", bound=Sized)
Progress = Callable[[int, int], None]


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
) -> Iterator[tuple[P, dict[str, Any]]]:
    """The same for parts that come one by one, such as those of a long table; each comes back with its result.

    `total` counts the members of all parts. `name` says what the shards are of: parts of another size, or of another
    form, need another one.
    """
    done = 0
    for index, part in enumerate(parts):
        path = folder / f"{name}-{index:05d}.json"
        if path.exists():
            result: dict[str, Any] = json.loads(path.read_bytes())
        else:
            result = run(part)
            if len(part) < total:
                folder.mkdir(parents=True, exist_ok=True)
                write_bytes(path, json.dumps(result, ensure_ascii=False).encode())
        yield part, result
        done += len(part)
        progress(done, total)
