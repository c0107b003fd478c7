"""The work of answering and grading.

All suites that one model answers in an iteration are one stream: the model is opened once, and the requests of all of
them share its batches. The stream is cut into fixed shards over the concatenated items; what a shard gives is kept in
the work folder of each suite's own stage, so every stage is still resumed, finished and reused by itself. A shard that
was interrupted is redone whole, with the same requests side by side, so a resumed stage has the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from harness.blocks import kinds
from harness.blocks.kinds import Answer, Context, EvalItem, Grade
from harness.evaluate import _flags
from harness.loop import sentinels
from harness.loop.drive import Desk, Failed, drive
from harness.loop.job import SHARD, Job, Result, check_failures
from harness.loop.shards import resumable_map
from harness.records import evaltables
from harness.records.hashing import seed_of, sha256
from harness.store.atomic import write_bytes

ANSWERS, GRADES = "answers.parquet", "grades.parquet"
JUDGED_SHARD = 128
"""Pairs per shard where a local model judges: each verdict is dear. A served model's verdicts are kept one by one."""
KEPT_SPLITS = 4
"""Splits whose items a worker holds."""


_made: OrderedDict[str, Sequence[EvalItem]] = OrderedDict()


def _items(suite: kinds.Suite, split: str) -> Sequence[EvalItem]:
    """The items of a split. They follow from the options, and a run asks for the same ones dozens of times."""
    name = sha256([type(suite).__qualname__, suite.model_dump(mode="json"), split])
    if name not in _made:
        _made[name] = suite.items(split)
        while len(_made) > KEPT_SPLITS:
            _made.popitem(last=False)
    _made.move_to_end(name)
    return _made[name]


# --- answers --------------------------------------------------------------------------------------------------------
@dataclass
class _Stream(Desk):
    """A desk for the items of several suites; a row is named `<number of its job>/<item id>`."""

    contexts: Sequence[Context] = ()
    costs: Sequence[Counter[str]] = ()

    def seed(self, row: str, draw: int) -> int:
        """As the item's own suite would draw alone."""
        number, item = row.split("/", 1)
        c = self.contexts[int(number)]
        return seed_of(c.seed, c.block, c.iteration, item, draw)

    def account(self, row: str) -> Counter[str]:
        """The tokens of the item's suite."""
        return self.costs[int(row.split("/", 1)[0])]


def answer(jobs: Sequence[Job]) -> list[Result]:
    """Answers the items of all jobs, which ask one model; a result for each job, aligned."""
    suites = [cast(kinds.Suite, job.stage.block) for job in jobs]
    asked = [(number, item) for number, job in enumerate(jobs) for item in _items(suites[number], str(job.stage.split))]
    totals = Counter(number for number, _ in asked)
    answers: list[list[Answer]] = [[] for _ in jobs]
    costs = [Counter[str]() for _ in jobs]
    group = sha256([job.stage.key for job in jobs])[:8]
    for start in range(0, len(asked), SHARD):
        name = f"{group}-{SHARD}-{start // SHARD:05d}.json"
        for number, made in _shard(jobs, asked[start : start + SHARD], name, keep=len(asked) > SHARD).items():
            answers[number] += [_answer_from(row) for row in made["answers"]]
            costs[number].update(made["cost"])
            jobs[number].progress(len(answers[number]), totals[number])
    return [_answered(job, answers[number], costs[number]) for number, job in enumerate(jobs)]


def _answered(job: Job, answers: Sequence[Answer], cost: Counter[str]) -> Result:
    job.settle(cost)
    evaltables.write_answers(job.folder / ANSWERS, answers)
    return {"keep": (ANSWERS,), "rows": len(answers)}


def _shard(
    jobs: Sequence[Job], part: Sequence[tuple[int, EvalItem]], name: str, *, keep: bool
) -> dict[int, dict[str, Any]]:
    """One shard by number of the job: read back where every job of it has kept its part, else made whole."""
    paths = {number: jobs[number].folder / "shards" / name for number, _ in part}
    if all(path.exists() for path in paths.values()):
        return {number: json.loads(path.read_bytes()) for number, path in paths.items()}
    made = _ask(jobs, part)
    for number, own in made.items():
        jobs[number].cost.update(own["cost"])
    if keep:
        for number, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, json.dumps(made[number], ensure_ascii=False).encode())
    return made


def _ask(jobs: Sequence[Job], part: Sequence[tuple[int, EvalItem]]) -> dict[int, dict[str, Any]]:
    contexts = [job.context() for job in jobs]
    costs = [Counter[str]() for _ in jobs]
    one = jobs[0].desk(contexts[0])
    desk = _Stream(one.engine, one.context, one.timer, contexts=contexts, costs=costs)
    makers = {
        f"{number}/{item.id}": cast(kinds.Suite, jobs[number].stage.block).answer(item, contexts[number])
        for number, item in part
    }
    results = drive(makers, desk)
    made: dict[int, dict[str, Any]] = {}
    for number in dict.fromkeys(number for number, _ in part):
        items = [item for n, item in part if n == number]
        own = [results[f"{number}/{item.id}"] for item in items]
        check_failures(own)
        rows = [_answer_json(item, result) for item, result in zip(items, own, strict=True)]
        made[number] = {"answers": rows, "cost": dict(costs[number])}
    return made


def _answer_json(item: EvalItem, result: Any) -> dict[str, Any]:
    if isinstance(result, Failed):
        return asdict(Answer(item=item.id, outputs=(), data={"error": result.reason}))
    return dict(vars(result))


def _answer_from(row: Mapping[str, Any]) -> Answer:
    return Answer(**{**row, "outputs": tuple(row["outputs"]), "finish": tuple(row["finish"])})


# --- grades ---------------------------------------------------------------------------------------------------------
def grade(job: Job) -> Result:
    """Grades a stage's answers shard by shard, then sums up over all of them."""
    stage, suite, context = job.stage, cast(kinds.Suite, job.stage.block), job.context()
    items = _items(suite, str(stage.split))
    folder = job.store.open("answers", str(stage.answers))
    answers = [_answer_from(row) for row in evaltables.read_answers(folder / ANSWERS)]
    judge = cast("kinds.Judge | None", stage.judge)

    def shard(part: Sequence[tuple[EvalItem, Answer]]) -> Result:
        before = Counter(job.cost)
        with job.timer("grader"):
            asking = suite.grade([item for item, _ in part], [answer for _, answer in part], judge, context)
            made: list[Grade] = drive({"all": asking}, job.desk(context), tolerate=False)["all"]
        return {"grades": [dict(vars(grade)) for grade in made], "cost": dict(job.cost - before)}

    about = sentinels.readings(job, items, answers)
    asked = Counter(job.cost)
    grades: list[Grade] = []
    cost = Counter[str]()
    pairs = list(zip(items, answers, strict=True))
    for result in resumable_map(pairs, _size(job), job.folder / "shards", shard, job.progress):
        grades += [_grade_from(row) for row in result["grades"]]
        cost.update(result["cost"])
    job.settle(cost + asked)
    graded = _graded(job, suite, _flagged(items, answers, grades) if suite.needs_judge() else grades)
    return graded | ({"sentinels": about} if about else {})


def _size(job: Job) -> int:
    local = any(not binding.spec.remote for binding in job.stage.models.values())
    return min(SHARD, JUDGED_SHARD) if local else SHARD


def _graded(job: Job, suite: kinds.Suite, grades: Sequence[Grade]) -> Result:
    evaltables.write_grades(job.folder / GRADES, grades)
    job.cost["judged_tokens"] += sum(grade.judged_tokens for grade in grades)
    missing = Counter(grade.missing for grade in grades if grade.missing)
    report = dict(suite.summarise(grades))
    return {"keep": (GRADES,), "rows": len(grades), "dropped": dict(missing), "report": report}


def _flagged(items: Sequence[EvalItem], answers: Sequence[Answer], grades: Sequence[Grade]) -> list[Grade]:
    """The grades with the tag `flag` where an answer looks like an attack on the judge; no grade changes."""
    found = {item.id: names for item, names in zip(items, _flags.flag(items, answers), strict=True) if names}
    return [
        replace(grade, tags={**grade.tags, "flag": ", ".join(sorted(found[grade.item]))})
        if grade.item in found
        else grade
        for grade in grades
    ]


def _grade_from(row: Mapping[str, Any]) -> Grade:
    """A grade of a shard; JSON has made lists of its tuples."""
    repeats = {name: tuple(values) for name, values in (row.get("repeats") or {}).items()}
    return Grade(**{**row, **({"repeats": repeats} if "repeats" in row else {})})
