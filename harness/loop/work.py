"""What a worker does for each kind of stage: it leaves files in the work folder and returns a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.loop import choose, evalwork, leaks, modelwork, rowwork, scorework, selectwork
from harness.loop.job import Job, Result

__all__ = ["Job", "Result", "run", "run_together"]


def run(job: Job) -> tuple[tuple[str, ...], Result]:
    """Does the stage; returns the names of the files to keep and the manifest's part of the report."""
    return _report(job, ACTIONS[job.stage.action](job))


def run_together(jobs: Sequence[Job]) -> list[tuple[tuple[str, ...], Result]]:
    """Does several `answer` stages of one model as one stream of requests; as `run` for each, aligned."""
    return [_report(job, result) for job, result in zip(jobs, evalwork.answer(jobs), strict=True)]


def _report(job: Job, result: Result) -> tuple[tuple[str, ...], Result]:
    share = {"share": round(job.share, 4)} if job.share < 1 else {}
    return tuple(result.pop("keep")), result | {"cost": dict(job.cost)} | share


def _answer(job: Job) -> Result:
    return evalwork.answer([job])[0]


ACTIONS: Mapping[str, Callable[[Job], Result]] = {
    "source": rowwork.source,
    "scratch": modelwork.scratch,
    "synthesize": rowwork.synthesize,
    "score": scorework.score,
    "select": selectwork.select,
    "pair": rowwork.pair,
    "leaks": leaks.look,
    "clean": leaks.clean,
    "finetune": modelwork.finetune,
    "choose": choose.choose,
    "answer": _answer,
    "grade": evalwork.grade,
}
