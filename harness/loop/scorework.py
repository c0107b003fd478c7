"""The work of stages that score: rows pass through as columns, so a million of them take little memory.

Only what a block reads is made into examples or a frame: a shard of rows for a scorer, the columns that it needs for a
scorer of whole tables. Shards of a long stage are shared with workers that have nothing else to do.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from harness.blocks import kinds
from harness.errors import StageFailed
from harness.loop import inputs
from harness.loop.columnwork import KEEP_ROWS, whole
from harness.loop.drive import drive
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.job import SHARD, Job, Result, reported
from harness.loop.shards import Claims, Over, resumable_parts, share_parts
from harness.loop.sharing import shareable
from harness.records import columns, table
from harness.records.columns import VECTOR
from harness.store.locks import held

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = f"columns-{SHARD}"
LOOK = 0.5
"""Seconds between two looks whether the stage that is helped still has its worker."""


def score(job: Job) -> Result:
    """Adds the columns of a scorer; every row stays."""
    block = cast(kinds.Scorer, job.stage.block)
    of = inputs.schema(job.store, job.stage.inputs)
    told: list[Result] = []
    given = _whole(job, block, told) if isinstance(block, kinds.TableScorer) else _by_shard(job, block, told)
    rows = (columns.extend(part, found) for part, found in given(inputs.tables(job.store, job.stage.inputs, of)))
    count = columns.write(job.folder / ROWS, columns.extended(of, block.columns()), rows)
    table.write_dropped(job.folder / DROPPED, ())
    if not count:
        raise StageFailed(f"{job.stage.label} leaves no rows (it was given none)")
    return {"keep": KEEP_ROWS, "rows": count, "dropped": {}} | reported(told)


Given = Callable[[Iterator["pa.Table"]], Iterator[tuple["pa.Table", Mapping[str, Sequence[Any]]]]]


def _shards(job: Job, block: kinds.Scorer) -> Callable[[pa.Table], Result]:
    """What a shard's file holds: its columns, what they cost, and what the block told."""
    context = job.context()

    def shard(part: pa.Table) -> Result:
        before = Counter(job.cost)
        batch = list(table.examples(part))
        found = drive({"batch": block.score(batch, context)}, job.desk(context), tolerate=False)["batch"]
        values = {name: columns.checked(name, found[name], len(batch)) for name in block.columns()}
        written = {name: _written(name, column) for name, column in values.items()}
        return {"columns": written, "cost": dict(job.cost - before), "told": context.tally.take()}

    return shard


def help_score(job: Job) -> int:
    """Does shards of a stage that another worker is at, as long as there are free ones; returns how many.

    It ends soon after that worker has failed or died: then its lease is free.
    """
    store, stage, claims = job.store, job.stage, _claims(job)

    def over() -> bool:
        return store.done(stage.kind, stage.key) or not held(store.home.locks, stage.key)

    job.still = _ends(over)
    try:
        parts = columns.parts(inputs.tables(store, stage.inputs, inputs.schema(store, stage.inputs)), SHARD)
        shard = _shards(job, cast(kinds.Scorer, stage.block))
        return share_parts(parts, job.shards, _NAME, shard, claims, over)
    finally:
        claims.close()


def _ends(over: Callable[[], bool]) -> Callable[[], None]:
    """What raises `Over` where a stage is over; it looks once in `LOOK` seconds."""
    looked = time.monotonic()

    def still() -> None:
        nonlocal looked
        if (now := time.monotonic()) - looked < LOOK:
            return
        looked = now
        if over():
            raise Over

    return still


def _claims(job: Job) -> Claims:
    return Claims(job.store.home.locks / f"{job.stage.key}.shards")


def _shared(job: Job, shard: Callable[[pa.Table], Result], claims: Claims, total: int) -> None:
    """Does all shards that no other worker is at, and leaves their files."""
    done = 0

    def told(rows: int) -> None:
        nonlocal done
        done += rows
        job.progress(done, total)

    of = inputs.schema(job.store, job.stage.inputs)
    parts = columns.parts(inputs.tables(job.store, job.stage.inputs, of), SHARD)
    share_parts(parts, job.shards, _NAME, shard, claims, lambda: False, told)


def _by_shard(job: Job, block: kinds.Scorer, told: list[Result]) -> Given:
    """Columns of one shard after the other; where that is worth while, other workers do some of them meanwhile."""
    shard = _shards(job, block)

    def run(rows: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, Mapping[str, Sequence[Any]]]]:
        total = inputs.count(job.store, job.stage.inputs)
        cost: Counter[str] = Counter()
        claims = _claims(job) if shareable(job.stage) and total > SHARD else None
        if claims is not None:
            job.progress(0, total)  # says how much there is to share
            _shared(job, shard, claims, total)
        progress = job.progress if claims is None else lambda done, total: None
        parts = columns.parts(rows, SHARD)
        for part, result in resumable_parts(parts, total, job.shards, _NAME, shard, progress, claims):
            cost.update(result["cost"])
            told.append(result["told"])
            yield part, {name: _read(name, values) for name, values in result["columns"].items()}
        if claims is not None:
            claims.close()
        job.settle(cost)

    return run


def _whole(job: Job, block: kinds.TableScorer, told: list[Result]) -> Given:
    """Columns of all rows at once, handed out part by part."""
    frame, vectors = whole(job, block.needs())
    context = replace(job.context(), vectors=vectors)
    found = block.score_table(frame, context)
    values = {name: columns.checked(name, found[name], len(frame)) for name in block.columns()}
    told.append(context.tally.take())

    def run(rows: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, Mapping[str, Sequence[Any]]]]:
        start = 0
        for part in rows:
            stop = start + len(part)
            yield part, {name: column[start:stop] for name, column in values.items()}
            start = stop

    return run


# --- a shard's columns as JSON ----------------------------------------------------------------------------------------
def _written(name: str, values: Sequence[Any]) -> Sequence[Any]:
    """Vectors as text: their float32 bytes in base 64. All else is JSON already."""
    import numpy as np

    if not name.startswith(VECTOR):
        return values
    return [None if v is None else base64.b64encode(np.asarray(v, dtype="<f4").tobytes()).decode() for v in values]


def _read(name: str, values: Sequence[Any]) -> Sequence[Any]:
    import numpy as np

    if not name.startswith(VECTOR):
        return values
    return [None if v is None else np.frombuffer(base64.b64decode(v), dtype="<f4") for v in values]
