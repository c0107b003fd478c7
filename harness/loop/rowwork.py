"""The work of stages that read, make and pair rows; every dropped row keeps its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from harness.blocks import kinds
from harness.blocks.kinds import Context, Item
from harness.errors import StageFailed
from harness.loop import inputs
from harness.loop.drive import Failed, drive
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.job import SHARD, Job, Result, check_failures, reported
from harness.loop.shards import resumable_parts
from harness.records import table
from harness.records.example import Drop, Dropped, Example
from harness.records.rowwriter import REASON, RowWriter

KEEP_ROWS = (ROWS, DROPPED)
HELD = 20_000
"""Items of a synthesizer that are held in memory; of more, only the ids are."""
Flat = Mapping[str, Any]
"""A row as the table holds it."""


def source(job: Job) -> Result:
    from harness.records import rawrows, sources

    raw = job.stage.data.format == "rows"
    return save_rows(job, rawrows.examples(job.stage.data) if raw else sources.load(job.stage.data))


def synthesize(job: Job) -> Result:
    """Makes rows shard by shard; a shard's file holds its rows as the table does."""
    block, context = cast(kinds.Synthesizer, job.stage.block), job.context()
    told: list[Result] = []
    cost: Counter[str] = Counter()

    def shard(part: Sequence[Item]) -> Result:
        before = Counter(job.cost)
        context.tally.take()  # what `items` tells has been told
        results = drive({item.id: block.make(item, context) for item in part}, job.desk(context))
        made = [table.flat(row) for item in part for row in _outcome(item, results[item.id])]
        check_failures([results[item.id] for item in part])
        return {"rows": made, "cost": dict(job.cost - before), "told": context.tally.take()}

    def made() -> Iterator[Flat]:
        size = 1 if block.in_turn else min(block.shard or SHARD, SHARD)
        items, total = _items(job, block, context)
        told.append(context.tally.take())
        parts = batched(items, size)
        for _, result in resumable_parts(parts, total, job.folder / "shards", f"rows-{size}", shard, job.progress):
            cost.update(result["cost"])
            told.append(result["told"])
            if block.in_turn:
                context.earlier.extend(map(table.unflat, result["rows"]))
            yield from result["rows"]
            if block.in_turn and block.enough(context):
                job.progress(total, total)
                break

    saved = _save(job, made())
    job.settle(cost)
    return saved | reported(told)


def _items(job: Job, block: kinds.Synthesizer, context: Context) -> tuple[Iterator[Item], int]:
    """All items with their number; where they are many, they are made a second time rather than held.

    Raises:
        StageFailed: two items have one id.
    """

    def stream() -> Iterator[Item]:
        rows = inputs.Rows(job.store, job.stage.inputs)  # may be read twice
        return block.items(rows if block.reads_rows else (), context)

    first, ids, twice = list[Item](), set[str](), list[str]()
    for item in stream():
        if item.id in ids:
            twice.append(item.id)
        ids.add(item.id)
        if len(ids) <= HELD:
            first.append(item)
    if twice:
        raise StageFailed(
            f"{len(twice)} ids are shared by several items, such as {twice[0]!r}: they would share random numbers"
        )
    return iter(first) if len(ids) <= HELD else stream(), len(ids)


def batched(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    while part := list(islice(items, size)):
        yield part


def _outcome(item: Item, result: Any) -> list[Example | Dropped]:
    if isinstance(result, Drop | Failed):
        reason = result.reason if isinstance(result, Drop) else f"failed: {result.reason}"
        return [Dropped(item.row or Example(id=item.id, messages=()), reason)]
    return list(result)


def pair(job: Job) -> Result:
    block = cast(kinds.PairBuilder, job.stage.block)
    context = job.context()
    saved = save_rows(job, block.pair(inputs.Rows(job.store, job.stage.inputs), context), empty=block.may_be_empty)
    return saved | reported([context.tally.take()])


def save_rows(job: Job, rows: Iterable[Example | Dropped], empty: bool = False) -> Result:
    """Writes what stays and what is dropped, in one pass; the report counts dropped rows by reason.

    Raises:
        StageFailed: no row is left, and `empty` is false.
    """
    return _save(job, map(table.flat, rows), empty)


def _save(job: Job, rows: Iterable[Flat], empty: bool = False) -> Result:
    reasons: Counter[str] = Counter()
    with RowWriter(job.folder / ROWS) as kept, RowWriter(job.folder / DROPPED) as dropped:
        for row in rows:
            reason = row.get(REASON)
            if reason is None:
                kept.add(row)
            else:
                dropped.add(row)
                reasons[reason] += 1
    if not kept.rows and job.stage.action != "source" and not empty:
        why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common()) or "it was given none"
        raise StageFailed(f"{job.stage.label} leaves no rows ({why})")
    return {"keep": KEEP_ROWS, "rows": kept.rows, "dropped": dict(reasons)}
