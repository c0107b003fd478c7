"""What a worker does for each kind of stage: it leaves files in the work folder and returns a report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from harness.blocks import kinds
from harness.blocks.kinds import Answer, Context, Grade, Item
from harness.blocks.prompts import load_pack
from harness.errors import StageFailed
from harness.loop import inputs
from harness.loop.clock import Timer
from harness.loop.desk import MODEL, Chats, Engines, located
from harness.loop.devices import visible_devices
from harness.loop.drive import Desk, Failed, drive
from harness.loop.feedback import from_grades
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.shards import resumable_map
from harness.loop.stage import Stage
from harness.records import evaltables, table
from harness.records.example import Candidate, Drop, Dropped, Example, Origin
from harness.store.artifacts import Store

SHARD = int(os.environ.get("LOOPBENCH_SHARD", "512"))
"""Items per shard: large enough for full batches, small enough that a kill costs little."""
FAILED_SHARE = 0.05
"""A stage whose rows fail more often than this is a failed stage; its finished shards are kept."""


@dataclass
class Job:
    """One stage being worked on."""

    stage: Stage
    store: Store
    engines: Engines
    timer: Timer
    progress: Callable[[int, int], None]
    threads: int = 1
    cost: Counter[str] = field(default_factory=Counter)

    @property
    def folder(self) -> Path:
        return self.store.work(self.stage.kind, self.stage.key)

    def context(self) -> Context:
        stage = self.stage
        feedback = from_grades([self.store.open("grades", key) for key in stage.feedback]) if stage.feedback else None
        reads = stage.action == "grade" or (stage.block is not None and stage.block.reads_prompts)
        pack = next((b.spec.prompt_pack for b in stage.models.values()), None) if reads else None
        return Context(
            iteration=stage.iteration or 1,
            seed=stage.seed or 0,
            block=stage.scope,
            feedback=feedback,
            chats=Chats(stage, self.engines, self.timer),
            prompts=load_pack(pack).entries if pack else {},
        )

    def desk(self, context: Context) -> Desk:
        models = self.stage.models
        return Desk(lambda role: self.engines.get(models[role], self.timer), context, self.timer, self.cost)

    def rows(self) -> Iterator[Example]:
        return inputs.load(self.store, self.stage.inputs)


Result = dict[str, Any]
KEEP_ROWS = (ROWS, DROPPED)


def run(job: Job) -> tuple[tuple[str, ...], Result]:
    """Does the stage; returns the names of the files to keep and the manifest's part of the report."""
    result = ACTIONS[job.stage.action](job)
    return tuple(result.pop("keep")), result | {"cost": dict(job.cost)}


def _source(job: Job) -> Result:
    from harness.records.sources import load

    rows: list[Example] = []
    dropped: list[Dropped] = []
    for row in load(job.stage.data):
        if isinstance(row, Dropped):
            dropped.append(row)
        else:
            rows.append(row)
    return _save_rows(job, rows, dropped)


def _scratch(job: Job) -> Result:
    with job.timer("import"):
        from harness.engines import scratch

    def texts() -> Iterator[str]:
        for row in job.rows():
            yield from (m["content"] for m in row.messages)

    with job.timer("trainer"):
        scratch.build(job.folder / MODEL, texts=texts(), **job.stage.data)
    return {"keep": (MODEL,), "rows": 0}


# --- rows in, rows out ----------------------------------------------------------------------------------------------
def _synthesize(job: Job) -> Result:
    block, context = cast(kinds.Synthesizer, job.stage.block), job.context()
    items = list(block.items(job.rows() if block.reads_rows else iter(()), context))
    _check_unique(items)

    def shard(part: Sequence[Item]) -> Result:
        before = Counter(job.cost)
        results = drive({item.id: block.make(item, context) for item in part}, job.desk(context))
        out = [_outcome(item, results[item.id]) for item in part]
        rows = [_row_json(r) for o in out for r in o if isinstance(r, Example)]
        dropped = [[_row_json(r.example), r.reason] for o in out for r in o if isinstance(r, Dropped)]
        _check_failures([results[item.id] for item in part])
        return {"rows": rows, "dropped": dropped, "cost": dict(job.cost - before)}

    rows, dropped = _collect(job, items, shard)
    return _save_rows(job, rows, dropped)


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


def _check_failures(results: Sequence[Any]) -> None:
    """Stops a shard with too many failed rows before it is saved: a failure is never read back as a result.

    A row that cannot be done whatever is tried (its prompt exceeds the context) is no failure of the stage.
    """
    failed = [r.reason for r in results if isinstance(r, Failed) and not r.expected]
    if len(failed) > FAILED_SHARE * len(results):
        raise StageFailed(
            f"{len(failed)} of {len(results)} rows failed, more than {FAILED_SHARE:.0%}; the first: {failed[0]}"
        )


def _score(job: Job) -> Result:
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

    return _save_rows(job, *_collect(job, rows, shard))


def _select(job: Job) -> Result:
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
    return _save_rows(job, kept, dropped)


def _pair(job: Job) -> Result:
    block = cast(kinds.PairBuilder, job.stage.block)
    made = list(block.pair(job.rows(), job.context()))
    rows = [row for row in made if isinstance(row, Example)]
    return _save_rows(job, rows, [row for row in made if isinstance(row, Dropped)])


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


def _save_rows(job: Job, rows: Iterable[Example], dropped: Iterable[Dropped]) -> Result:
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


# --- training -------------------------------------------------------------------------------------------------------
def _finetune(job: Job) -> Result:
    stage, block = job.stage, cast(kinds.Trainer, job.stage.block)
    models = {option: located(job.store, stage.models[role]).path for option, role in stage.roles.items()}
    if visible_devices():
        job.engines.close()  # a training needs the whole device
    with job.timer("import"):
        from trl import DPOTrainer, SFTTrainer  # noqa: F401 - the slow part of starting a training
    (job.folder / "checkpoints").mkdir(exist_ok=True)
    context = kinds.TrainContext(
        start=_path(models["start"], stage),
        reference=models.get("reference"),
        out=job.folder / MODEL,
        work=job.folder / "checkpoints",
        seed=stage.seed or 0,
        device=stage.models[stage.roles["start"]].spec.device,
        threads=job.threads,
        progress=lambda step, total, metrics: job.progress(step, total),
    )
    with job.timer("trainer"):
        report = block.train(job.rows(), context)
    job.cost.update(train_tokens=report.train_tokens, loss_tokens=report.loss_tokens)
    return {"keep": (MODEL,), "rows": report.rows, "report": asdict(report)}


def _path(path: Path | None, stage: Stage) -> Path:
    if path is None:
        raise StageFailed(f"{stage.label} cannot train a model that has no folder (a served one)")
    return path


# --- evaluation -----------------------------------------------------------------------------------------------------
def _answer(job: Job) -> Result:
    suite, context = cast(kinds.Suite, job.stage.block), job.context()
    items = suite.items(str(job.stage.split))

    def shard(part: Sequence[kinds.EvalItem]) -> Result:
        before = Counter(job.cost)
        results = drive({item.id: suite.answer(item, context) for item in part}, job.desk(context))
        answers = [_answer_json(item, results[item.id]) for item in part]
        _check_failures([results[item.id] for item in part])
        return {"answers": answers, "cost": dict(job.cost - before)}

    answers, cost = [], Counter[str]()
    for result in resumable_map(items, SHARD, job.folder / "shards", shard, job.progress):
        answers += [_answer_from(a) for a in result["answers"]]
        cost.update(result["cost"])
    job.cost.clear()
    job.cost.update(cost)
    evaltables.write_answers(job.folder / "answers.parquet", answers)
    return {"keep": ("answers.parquet",), "rows": len(answers)}


def _answer_json(item: kinds.EvalItem, result: Any) -> dict[str, Any]:
    if isinstance(result, Failed):
        return asdict(Answer(item=item.id, outputs=(), data={"error": result.reason}))
    return asdict(result)


def _answer_from(row: Mapping[str, Any]) -> Answer:
    return Answer(**{**row, "outputs": tuple(row["outputs"]), "finish": tuple(row["finish"])})


def _grade(job: Job) -> Result:
    stage, suite, context = job.stage, cast(kinds.Suite, job.stage.block), job.context()
    items = suite.items(str(stage.split))
    folder = job.store.open("answers", str(stage.answers))
    answers = [_answer_from(row) for row in evaltables.read_answers(folder / "answers.parquet")]
    judge = cast("kinds.Judge | None", stage.judge)
    with job.timer("grader"):
        made = drive({"all": suite.grade(items, answers, judge, context)}, job.desk(context), tolerate=False)
    grades: list[Grade] = made["all"]
    evaltables.write_grades(job.folder / "grades.parquet", grades)
    job.cost["judged_tokens"] += sum(g.judged_tokens for g in grades)
    report = dict(suite.summarise(grades))
    missing = Counter(g.missing for g in grades if g.missing)
    return {"keep": ("grades.parquet",), "rows": len(grades), "dropped": dict(missing), "report": report}


ACTIONS: Mapping[str, Callable[[Job], Result]] = {
    "source": _source,
    "scratch": _scratch,
    "synthesize": _synthesize,
    "score": _score,
    "select": _select,
    "pair": _pair,
    "finetune": _finetune,
    "answer": _answer,
    "grade": _grade,
}
