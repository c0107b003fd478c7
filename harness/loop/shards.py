"""The resumable map: item-wise work in fixed shards, each saved whole or done again.

A shard is the unit of resume. Its members and their order are fixed by the input, so a shard that was interrupted is
redone with the same batch and gives the same bytes. Work that fits one shard is not saved on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.store.atomic import write_bytes

T = TypeVar("T")
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
    total = len(items)
    for index, start in enumerate(range(0, total, size)):
        shard, path = items[start : start + size], folder / f"{size}-{index:05d}.json"
        if path.exists():
            result: dict[str, Any] = json.loads(path.read_bytes())
        else:
            result = run(shard)
            if total > size:
                folder.mkdir(parents=True, exist_ok=True)
                write_bytes(path, json.dumps(result, ensure_ascii=False).encode())
        yield result
        progress(min(start + size, total), total)
