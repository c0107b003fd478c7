"""The work of stages that select: rows pass through as columns, so a million of them take little memory.

Only the columns that a selector needs are made into a frame: of all rows, or of a part where it decides each by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from harness.blocks import kinds
from harness.errors import StageFailed
from harness.loop import inputs
from harness.loop.columnwork import KEEP_ROWS, plain, whole
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.job import Job, Result, reported
from harness.records import columns
from harness.records.columns import VECTOR

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

REASON = "reason"
PART = 16_384
"""Rows that a selector is given at once which decides each by itself."""


def select(job: Job) -> Result:
    """Keeps rows and drops others for a reason, as a selector decides from the columns that it needs."""
    block = cast(kinds.Selector, job.stage.block)
    context = job.context()
    in_parts = not any(name.startswith(VECTOR) for name in block.needs())
    if in_parts and isinstance(block, kinds.PartSelector):
        decisions = _part_after_part(job, block, context)
    elif in_parts and block.row_by_row:
        decisions = _row_by_row(job, block, context)
    else:
        decisions = _at_once(job, block, context)
    counts = Counter(reason for reason in decisions if reason is not None)
    if counts.total() == len(decisions):
        why = ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common()) or "it was given none"
        raise StageFailed(
            f"{job.stage.label} keeps none of {len(decisions):,} rows ({why}): loosen its options, or give it other "
            "rows"
        )
    of = inputs.schema(job.store, job.stage.inputs)
    columns.write(job.folder / DROPPED, _dropped_schema(of), _dropped(job, of, decisions))
    kept = columns.write(job.folder / ROWS, of, _kept(job, of, decisions))
    return {"keep": KEEP_ROWS, "rows": kept, "dropped": dict(counts)} | reported([context.tally.take()])


def _at_once(job: Job, block: kinds.Selector, context: kinds.Context) -> list[str | None]:
    frame, vectors = whole(job, block.needs())
    return _decided(block, frame, replace(context, vectors=vectors))


def _row_by_row(job: Job, block: kinds.Selector, context: kinds.Context) -> list[str | None]:
    """Part by part: of the whole only the decisions are held."""
    frames = inputs.frames(job.store, job.stage.inputs, plain(block.needs()), PART)
    return [reason for frame in frames for reason in _decided(block, frame, context)]


def _part_after_part(job: Job, block: kinds.PartSelector, context: kinds.Context) -> list[str | None]:
    """The parts as one stream; what the block holds of them is its own affair."""
    frames = inputs.frames(job.store, job.stage.inputs, plain(block.needs()), PART)
    decisions = block.decide(frames, replace(context, scratch=job.folder))
    return _aligned(block, decisions, inputs.count(job.store, job.stage.inputs))


def _decided(block: kinds.Selector, frame: pd.DataFrame, context: kinds.Context) -> list[str | None]:
    return _aligned(block, block.select(frame, context), len(frame))


def _aligned(block: kinds.Selector, decisions: list[str | None], rows: int) -> list[str | None]:
    if len(decisions) != rows:
        raise ValueError(f"{block.name} decided on {len(decisions)} of {rows} rows")
    return decisions


def _kept(job: Job, of: pa.Schema, decisions: Sequence[str | None]) -> Iterator[pa.Table]:
    for part, reasons in _with_reasons(job, of, decisions):
        yield part.filter(reasons.is_null())


def _dropped(job: Job, of: pa.Schema, decisions: Sequence[str | None]) -> Iterator[pa.Table]:
    """Dropped rows with their reasons, without vectors: nobody computes with them any more."""
    plain = _plain(of)
    for part, reasons in _with_reasons(job, plain, decisions):
        yield part.append_column(_dropped_schema(of).field(REASON), reasons).filter(reasons.is_valid())


def _with_reasons(job: Job, of: pa.Schema, decisions: Sequence[str | None]) -> Iterator[tuple[pa.Table, pa.Array]]:
    import pyarrow as pa

    start = 0
    for part in inputs.tables(job.store, job.stage.inputs, of):
        stop = start + len(part)
        yield part, pa.array(decisions[start:stop], pa.string())
        start = stop


def _plain(of: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([field for field in of if not columns.is_vector(field.name)])


def _dropped_schema(of: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return _plain(of).append(pa.field(REASON, pa.string()))
