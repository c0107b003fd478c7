"""Which of the models along a training goes on: the one that does best on the dev split of a suite.

The choice is a stage of its own: its parents are the training and the dev grades of its models, all known when
planning, and its output is a model like any other. It reads dev grades only, so test scores stay untouched by it.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config.model import SuiteRef
from harness.errors import StageFailed, UserError
from harness.finetune._points import POINTS
from harness.loop.desk import MODEL
from harness.loop.job import Job, Result
from harness.loop.planner import Evaluation, Planner
from harness.loop.stage import Binding, Stage
from harness.records.evaltables import read_grades

VERSION = 1
"""Raised when the same grades would give another choice."""


@dataclass(frozen=True)
class Choice:
    """What decides: the folders of the models, earliest first, and the metric."""

    parts: tuple[str, ...]
    metric: str
    higher_is_better: bool
    within: float


def plan(planner: Planner, block: Any, tuned: Binding, label: str, where: str) -> tuple[Binding, list[str]]:
    """The binding of the model that `block` (a finetune with `choose`) chooses, and the stages that lead to it.

    Raises:
        UserError: the suite or metric is not known, or the suite has no dev split.
    """
    suite, metric = _suite(planner, str(block.choose), where)
    parts = (*(f"{POINTS}/{number}" for number in range(1, block.checkpoints)), MODEL)
    grades, keys = [], []
    for number, part in enumerate(parts, start=1):
        model = replace(tuned, part=None if part == MODEL else part)
        evaluation = Evaluation(planner)
        evaluation.one(suite, "dev", model, f"{label} {number}/{len(parts)} on {suite.name} dev")
        grades.append(evaluation.grades[suite.name]["dev"])
        keys += [evaluation.answers[suite.name]["dev"], grades[-1]]
    choice = Choice(parts, metric.name, metric.higher_is_better, float(block.choose_within))
    chosen = planner.add(
        Stage(
            action="choose",
            label=f"{label} choose",
            models={"model": tuned},
            roles={"model": "model"},
            feedback=tuple(grades),
            data=choice,
            fingerprint={"choice": VERSION, **{k: list(v) if k == "parts" else v for k, v in vars(choice).items()}},
        )
    )
    return replace(tuned, spec=replace(tuned.spec, revision=chosen.key), stage=chosen.key), [*keys, chosen.key]


def _suite(planner: Planner, choose: str, where: str) -> tuple[SuiteRef, Any]:
    name, _, metric = choose.partition("/")
    suites = {suite.name: suite for suite in planner.experiment.suites}
    if name not in suites:
        known = ", ".join(suites) or "none"
        raise UserError(f"{where}: choose names the suite {name!r}, which the experiment does not measure ({known})")
    suite = suites[name]
    if "dev" not in suite.block.splits():
        raise UserError(
            f"{where}: choose reads the dev split of {name}, which has none: name a suite that has one, or write "
            "`dev: 20%` in it where it allows that (its scores then say subset). The test split is never steered by"
        )
    metrics = {m.name: m for m in suite.block.metrics()}
    if metric and metric not in metrics:
        raise UserError(f"{where}: {name} has no metric {metric!r}; it has {', '.join(metrics)}")
    return suite, metrics[metric] if metric else next(iter(metrics.values()))


# --- what a worker does -----------------------------------------------------------------------------------------------
def choose(job: Job) -> Result:
    """Picks by the mean of the dev grades and links the model's files.

    Raises:
        StageFailed: no model has a grade that could be read.
    """
    choice: Choice = job.stage.data
    means = [_means(job, key) for key in job.stage.feedback]
    scores = [of.get(choice.metric) for of in means]
    best = pick(scores, choice.higher_is_better, choice.within)
    if best is None:
        raise StageFailed(f"{job.stage.label}: none of {len(scores)} models has a {choice.metric} on the dev split")
    source = job.store.open("model", str(job.stage.models["model"].stage)) / choice.parts[best]
    shutil.rmtree(job.folder / MODEL, ignore_errors=True)
    shutil.copytree(source, job.folder / MODEL, copy_function=_link)
    figures = {f"dev {name} {number}": value for number, of in enumerate(means, 1) for name, value in of.items()}
    report = {"counts": {"models": len(scores)}, "figures": {**figures, "chosen": best + 1}}
    return {"keep": (MODEL,), "rows": 0, "report": report}


def pick(scores: Sequence[float | None], higher_is_better: bool, within: float) -> int | None:
    """The place of the earliest model whose score is within `within` of the best; None where there are no scores."""
    sign = 1 if higher_is_better else -1
    known = [sign * score for score in scores if score is not None]
    if not known:
        return None
    return next(i for i, s in enumerate(scores) if s is not None and sign * s >= max(known) - within)


def _means(job: Job, key: str) -> dict[str, float]:
    """The mean of every metric that has a value, so that what the choice did not look at can be read beside it."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in read_grades(job.store.open("grades", key) / "grades.parquet"):
        for name, value in row["values"].items():
            if value is not None:
                values[name].append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)
