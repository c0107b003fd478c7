"""Which of the models along a training goes on: the one that does best on the dev split of a suite.

The choice is a stage of its own: its parents are the training and the dev grades of its models, all known when
planning, and its output is a model like any other. It reads dev grades only, so test scores stay untouched by it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
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
@dataclass(frozen=True)
class Grades:
    """The dev grades of one model: the mean of each metric over the items that have a value, and what is missing."""

    items: int
    means: Mapping[str, float]
    missing: Mapping[str, int]
    """Metric to the number of items without a value; metrics that all items have are not named."""
    reasons: Mapping[str, int]
    """Why grades are missing, in the suite's words."""

    def figures(self, number: int) -> dict[str, float]:
        """What the report says of the model: means, and beside them how many grades each leaves out."""
        means = {f"dev {name} {number}": value for name, value in self.means.items()}
        return means | {f"dev {name} {number} missing": float(count) for name, count in self.missing.items()}


def choose(job: Job) -> Result:
    """Picks by the mean of the dev grades and links the model's files.

    Raises:
        StageFailed: no model has a grade that could be read.
    """
    choice: Choice = job.stage.data
    grades = [_grades(job, key) for key in job.stage.feedback]
    best = pick([of.means.get(choice.metric) for of in grades], choice.higher_is_better, choice.within)
    if best is None:
        raise StageFailed(f"{job.stage.label}: {_nothing(choice, grades)}")
    source = job.store.open("model", str(job.stage.models["model"].stage)) / choice.parts[best]
    shutil.rmtree(job.folder / MODEL, ignore_errors=True)
    shutil.copytree(source, job.folder / MODEL, copy_function=_link)
    counts = {"models": len(grades), "dev grades missing": sum(of.missing.get(choice.metric, 0) for of in grades)}
    figures = {name: value for number, of in enumerate(grades, 1) for name, value in of.figures(number).items()}
    report = {"counts": counts, "figures": {**figures, "chosen": best + 1}}
    return {"keep": (MODEL,), "rows": 0, "report": report}


def _nothing(choice: Choice, grades: Sequence[Grades]) -> str:
    """Why there is no choice, and what could be chosen by instead."""
    reasons = Counter[str]()
    for of in grades:
        reasons.update(of.reasons)
    why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common(5)) or "no reason is given"
    others = sorted({name for of in grades for name in of.means})
    hint = f"; choose by {' or '.join(others)}, which have values" if others else ""
    return (
        f"none of {len(grades)} models has a {choice.metric} on the dev split: all of "
        f"{sum(of.items for of in grades):,} grades are missing ({why}){hint}. The trainings are kept"
    )


def pick(scores: Sequence[float | None], higher_is_better: bool, within: float) -> int | None:
    """The place of the earliest model whose score is within `within` of the best; None where there are no scores."""
    sign = 1 if higher_is_better else -1
    known = [sign * score for score in scores if score is not None]
    if not known:
        return None
    return next(i for i, s in enumerate(scores) if s is not None and sign * s >= max(known) - within)


def _grades(job: Job, key: str) -> Grades:
    """All metrics, so that what the choice did not look at can be read beside it."""
    values: dict[str, list[float]] = defaultdict(list)
    reasons, items = Counter[str](), 0
    missing = Counter[str]()
    for row in read_grades(job.store.open("grades", key) / "grades.parquet"):
        items += 1
        absent = [name for name, value in row["values"].items() if value is None]
        missing.update(absent)
        reasons.update([row["missing"] or "no reason"] if absent else [])
        for name in row["values"].keys() - set(absent):
            values[name].append(row["values"][name])
    means = {name: sum(found) / len(found) for name, found in sorted(values.items())}
    return Grades(items, means, dict(sorted(missing.items())), dict(reasons))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)
