"""The work of stages that read, make, score, select and pair rows; every dropped row keeps its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from harness.blocks import kinds
from harness.blocks.kinds import Item
from harness.errors import StageFailed
from harness.loop import inputs
from harness.loop.drive import Failed, drive
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.job import SHARD, Job, Result, check_failures
from harness.loop.shards import resumable_map
from harness.records import table
from harness.records.example import Candidate, Drop, Dropped, Example, Origin

KEEP_ROWS = (ROWS, DROPPED)


def source(job: Job) -> Result:
    from harness.records.sources import load

    rows: list[Example] = []
    dropped: list[Dropped] = []
    for row in load(job.stage.data):
        if isinstance(row, Dropped):
            dropped.append(row)
        else:
            rows.append(row)
    return save_rows(job, rows, dropped)


def synthesize(job: Job) -> Result:
    block, context = cast(kinds.Synthesizer, job.stage.block), job.context()
    items = list(block.items(job.rows() if block.reads_rows else iter(()), context))
    _check_unique(items)

    def shard(part: Sequence[Item]) -> Result:
        before = Counter(job.cost)
        results = drive({item.id: block.make(item, context) for item in part}, job.desk(context))
        out = [_outcome(item, results[item.id]) for item in part]
        rows = [_row_json(r) for o in out for r in o if isinstance(r, Example)]
        dropped = [[_row_json(r.example), r.reason] for o in out for r in o if isinstance(r, Dropped)]
        check_failures([results[item.id] for item in part])
        return {"rows": rows, "dropped": dropped, "cost": dict(job.cost - before)}

    rows, dropped = _collect(job, items, shard)
    return save_rows(job, rows, dropped)


def _outcome(item: Item, result: Any) -> list[Example | Dropped]:
    if isinstance(result, Drop | Failed):
        reason = result.reason if isinstance(result, Drop) else f"failed: {result.reason}"
        return [Dropped(item.row or Example(id=item.id, messages=()), reason)]
    return list(result)


def _check_unique(items: Iterable[Item]) -> None:
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise StageFailed(
            f"{len(twice)} ids are shared by several items, such as {twice[0]!r}: they would share random numbers"
        )


def score(job: Job) -> Result:
    block, context = cast(kinds.Scorer, job.stage.block), job.context()
    rows = list(job.rows())

    def shard(part: Sequence[Example]) -> Result:
        before = Counter(job.cost)
        columns = drive({"batch": block.score(part, context)}, job.desk(context), tolerate=False)["batch"]
        out = []
        for index, row in enumerate(part):
            scores = {name: columns[name][index] for name in block.columns()}
            out.append(_row_json(row.with_scores(**{n: None if v is None else float(v) for n, v in scores.items()})))
        return {"rows": out, "dropped": [], "cost": dict(job.cost - before)}

    return save_rows(job, *_collect(job, rows, shard))


def select(job: Job) -> Result:
    block = cast(kinds.Selector, job.stage.block)
    frame = inputs.load_frame(job.store, job.stage.inputs, list(dict.fromkeys(("id", "group", *block.needs()))))
    decisions = block.select(frame, job.context())
    counts = Counter(reason for reason in decisions if reason is not None)
    if len(frame) and counts.total() == len(frame):
        why = ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common())
        raise StageFailed(
            f"{job.stage.label} keeps none of {len(frame):,} rows ({why}): loosen its options, or give it other rows"
        )
    kept = (row for row, reason in zip(job.rows(), decisions, strict=True) if reason is None)
    dropped = (Dropped(row, reason) for row, reason in zip(job.rows(), decisions, strict=True) if reason is not None)
    return save_rows(job, kept, dropped)


def pair(job: Job) -> Result:
    block = cast(kinds.PairBuilder, job.stage.block)
    made = list(block.pair(job.rows(), job.context()))
    rows = [row for row in made if isinstance(row, Example)]
    return save_rows(job, rows, [row for row in made if isinstance(row, Dropped)])


def _collect(job: Job, items: Sequence[Any], shard: Callable[[Any], Result]) -> tuple[list[Example], list[Dropped]]:
    rows: list[Example] = []
    dropped: list[Dropped] = []
    cost: Counter[str] = Counter()
    for result in resumable_map(items, SHARD, job.folder / "shards", shard, job.progress):
        rows += [_row_from(r) for r in result["rows"]]
        dropped += [Dropped(_row_from(r), reason) for r, reason in result["dropped"]]
        cost.update(result["cost"])
    job.cost.clear()
    job.cost.update(cost)
    return rows, dropped


def save_rows(job: Job, rows: Iterable[Example], dropped: Iterable[Dropped]) -> Result:
    """Writes both tables; the report counts dropped rows by reason.

    Raises:
        StageFailed: no row is left.
    """
    reasons: Counter[str] = Counter()

    def counted() -> Iterator[Dropped]:
        for row in dropped:
            reasons[row.reason] += 1
            yield row

    count = table.write(job.folder / ROWS, rows)
    table.write_dropped(job.folder / DROPPED, counted())
    if not count and job.stage.action != "source":
        why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common()) or "it was given none"
        raise StageFailed(f"{job.stage.label} leaves no rows ({why})")
    return {"keep": KEEP_ROWS, "rows": count, "dropped": dict(reasons)}


def _row_json(row: Example) -> dict[str, Any]:
    return asdict(row)


def _row_from(row: Mapping[str, Any]) -> Example:
    origin = row["origin"] | {"parents": tuple(row["origin"]["parents"])}
    candidates = tuple(Candidate(**c) for c in row["candidates"])
    return Example(**{**row, "messages": tuple(row["messages"]), "candidates": candidates, "origin": Origin(**origin)})
