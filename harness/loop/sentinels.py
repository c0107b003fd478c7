"""Judge sentinels: a few frozen answers per judged suite, judged anew whenever a run grades with a model.

The answers are chosen and stored when a suite is first judged in this home. The first grade stage of a run that needs
the judge has it judge them, past every cache; the other stages of that run share the reading. Readings go into the
manifest of every grade, so they travel with it. A finished experiment grades nothing, so it asks nothing.

A stage that a kill interrupted keeps the reading of each run that worked on it: its verdicts come from all of them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from harness.blocks import kinds
from harness.blocks.kinds import Answer, Ask, EvalItem, Grade, Reply, Request
from harness.config.sentinels import Sentinels
from harness.loop.drive import drive
from harness.loop.job import Job
from harness.records.hashing import seed_of, sha256
from harness.records.sentinels import Reading
from harness.store.atomic import write_json
from harness.store.locks import lease

KEPT = "sentinels.json"


@dataclass(frozen=True)
class Panel:
    """The frozen answers of a suite, by item."""

    name: str
    answers: dict[str, Answer]


def readings(job: Job, items: Sequence[EvalItem], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The readings that stand for a grade stage's verdicts, as JSON; taken first where this run has none yet.

    Empty where no model judges, outside a run, and for the dev split, about which nothing is claimed.
    """
    stage = job.stage
    judge = cast("kinds.Judge | None", stage.judge)
    models = judge is not None and judge.asks_model and "judge" in stage.models
    if job.run is None or not models or stage.split != "test" or not _options(job).answers:
        return []
    note = job.folder / KEPT
    kept: list[dict[str, Any]] = json.loads(note.read_bytes()) if note.exists() else []
    now = _of_run(job, items, answers)
    if now is not None and all(one["run"] != now.run for one in kept):
        kept.append(now.to_json())
        write_json(note, kept)
    return kept


def _options(job: Job) -> Sentinels:
    return job.stage.data if isinstance(job.stage.data, Sentinels) else Sentinels()


def _of_run(job: Job, items: Sequence[EvalItem], answers: Sequence[Answer]) -> Reading | None:
    """This run's reading, made by whichever stage comes first; None where no answer could be frozen."""
    root = job.store.home.path / "sentinels"
    root.mkdir(parents=True, exist_ok=True)
    judge = sha256([job.stage.models["judge"].identity(), job.stage.identity()["judge"], job.stage.options()])
    suite = sha256([job.stage.name, job.stage.options(), job.stage.fingerprint.get("items")])
    path = root / f"{suite[:16]}-{judge[:16]}-{job.run}.json"
    with lease(job.store.home.locks, f"sentinels-{suite[:16]}", f"sentinels of {job.stage.suite}", timeout=24 * 3600):
        if path.exists():
            return Reading.from_json(json.loads(path.read_bytes()))
        panel = _panel(root / f"{suite[:16]}.json", items, answers, _options(job).answers)
        if not panel.answers:
            return None
        reading = _judged(job, panel, items, judge)
        write_json(path, reading.to_json())
    return reading


def _panel(path: Path, items: Sequence[EvalItem], answers: Sequence[Answer], count: int) -> Panel:
    """The frozen answers of a suite, frozen now where there are none."""
    if not path.exists():
        frozen = _chosen(items, answers, count)
        if not frozen:
            return Panel("", {})
        write_json(path, [asdict(answer) for answer in frozen])
    rows = json.loads(path.read_bytes())
    found = [Answer(**{**row, "outputs": tuple(row["outputs"]), "finish": tuple(row["finish"])}) for row in rows]
    return Panel(sha256(rows), {answer.item: answer for answer in found})


def _chosen(items: Sequence[EvalItem], answers: Sequence[Answer], count: int) -> list[Answer]:
    """Answers to freeze, by the hash of their items: what the model said, and every second time half a reference.

    A weak model's answers alone would all get the lowest grade, and hide every drift but a rise.
    """
    said = [(i, a) for i, a in zip(items, answers, strict=True) if len(a.outputs) == len(i.turns) and all(a.outputs)]
    said.sort(key=lambda pair: hashlib.sha256(pair[0].id.encode()).digest())
    frozen = []
    for number, (item, answer) in enumerate(said[:count]):
        halves = tuple(text[: len(text) // 2] for text in item.reference)
        whole = number % 2 == 1 and len(halves) == len(item.turns) and all(half.strip() for half in halves)
        frozen.append(
            Answer(item=item.id, outputs=halves if whole else answer.outputs, finish=("stop",) * len(item.turns))
        )
    return frozen


def _judged(job: Job, panel: Panel, items: Sequence[EvalItem], judge: str) -> Reading:
    suite, context = cast(kinds.Suite, job.stage.block), job.context()
    if "repeats" in type(suite).model_fields:  # the readings have repeats of their own
        suite = suite.model_copy(update={"repeats": 1})
    asked = [item for item in items if item.id in panel.answers]
    given = [panel.answers[item.id] for item in asked]
    served = job.stage.models["judge"].spec.remote
    taken = time.time()
    makers = {
        str(n): _fresh(suite.grade(asked, given, cast("kinds.Judge", job.stage.judge), context), n)
        for n in range(_options(job).repeats if served else 1)  # a local judge's sampling repeats exactly
    }
    with job.timer("sentinels"):
        made = drive(makers, job.desk(context), tolerate=False)
    job.cost["judged_tokens"] += sum(grade.judged_tokens for grades in made.values() for grade in grades)
    values = {
        metric.name: _repeats([_values(made[repeat], metric.name) for repeat in makers]) for metric in suite.metrics()
    }
    return Reading(
        panel=panel.name,
        judge=judge,
        run=str(job.run),
        taken=taken,
        values=values,
    )


def _repeats(each: Sequence[Mapping[str, float | None]]) -> dict[str, tuple[float | None, ...]]:
    return {item: tuple(values.get(item) for values in each) for item in each[0]}


def _values(grades: Sequence[Grade], metric: str) -> dict[str, float | None]:
    """An item's value: the mean over its turns; None where a turn has none."""
    by: dict[str, list[float | None]] = defaultdict(list)
    for grade in grades:
        by[grade.item].append(grade.values.get(metric))
    return {
        item: None if any(v is None for v in values) else fmean(v for v in values if v is not None)
        for item, values in by.items()
    }


def _fresh(
    asking: Generator[Sequence[Request], Sequence[Reply], list[Grade]], repeat: int
) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
    """The same asks, but never answered from a cache, and with random numbers of their own in every repeat."""
    step = asking.__next__
    while True:
        try:
            requests = step()
        except StopIteration as stop:
            grades: list[Grade] = stop.value
            return grades
        try:
            replies = yield type(requests)([_anew(request, repeat) for request in requests])  # type: ignore[call-arg]
        except Exception as error:  # noqa: BLE001 - handed on to the suite, whose request it answers
            step = lambda e=error: asking.throw(e)  # type: ignore[misc]  # noqa: E731
        else:
            step = lambda r=replies: asking.send(r)  # type: ignore[misc]  # noqa: E731


def _anew(request: Request, repeat: int) -> Request:
    if not isinstance(request, Ask):
        return request
    return replace(request, fresh=True, fixed_seed=seed_of(request.fixed_seed, request.draw, "sentinel", repeat))
