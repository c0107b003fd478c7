"""Checks that need more than one part of an experiment: baseline, students, seeds, training options, gate, feedback."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from harness.config.checks import nearest
from harness.config.claims import check_claims
from harness.config.document import Node, Problems
from harness.config.model import Experiment
from harness.config.suites import DEV

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
"""Experiments name folders and files, so theirs has no slash."""


def check_experiment(experiment: Experiment, root: Node, recipes: Collection[str], problems: Problems) -> None:
    """Notes what does not fit together. `recipes` are all names in the file, those with mistakes of their own too."""
    _check_names(experiment, root, recipes, problems)
    _check_data(experiment, root, problems)
    _check_seeds(experiment, root, problems)
    _check_train(experiment, root, recipes, problems)
    _check_gate(experiment, root, problems)
    _check_feedback(experiment, root, problems)
    _check_limits(experiment, root, problems)
    check_claims(experiment, root, recipes, problems)


def _check_names(experiment: Experiment, root: Node, recipes: Collection[str], problems: Problems) -> None:
    if not re.fullmatch(_NAME, experiment.name):
        problems.add(
            f"experiment: {experiment.name!r} is no name; use letters, digits, - and _", root.mark("experiment")
        )
    if experiment.baseline is not None and experiment.baseline not in recipes:
        text = f"baseline: {experiment.baseline!r} is not among the recipes{nearest(experiment.baseline, recipes)}"
        problems.add(text, root.mark("baseline"))
    for name in recipes & root.value.keys() if isinstance(recipes, set) else ():
        problems.add(f"a recipe cannot be named {name!r}, which is a key of experiments", root.mark("recipes"))
    roles = root.value.get("models")
    bound = set(roles) if isinstance(roles, dict) else set()
    for student in experiment.students:
        if isinstance(roles, dict) and student not in bound:
            problems.add(
                f"students: no model is bound to {student!r} under models{nearest(student, bound)}",
                root.mark("students" if "students" in root.value else "models"),
            )
    if len(set(experiment.students)) < len(experiment.students):
        problems.add("students: names one twice", root.mark("students"))
    for name, model in experiment.models.items():
        source = model.scratch.tokenizer_from if model.scratch is not None else None
        data = root.value.get("data")
        if source is not None and isinstance(data, dict) and source not in data:
            problems.add(
                f"models.{name}.scratch.tokenizer_from: there is no data named {source!r}{nearest(source, data)}",
                root.mark("models", name, "scratch", "tokenizer_from"),
            )


def _check_data(experiment: Experiment, root: Node, problems: Problems) -> None:
    """Names of datasets begin the ids of their rows, so two sources of one name would give equal ids."""
    seen: dict[str, str] = {}
    for role, dataset in experiment.data.items():
        other = seen.setdefault(dataset.name, role)
        if other != role and dataset != experiment.data[other]:
            text = f"data: {role} and {other} are both named {dataset.name!r}; give one of them a name with `dataset:`"
            problems.add(text, root.mark("data", role))


def _check_seeds(experiment: Experiment, root: Node, problems: Problems) -> None:
    for key, seeds in (("seeds", experiment.seeds), ("data_seeds", experiment.data_seeds)):
        if len(set(seeds)) < len(seeds):
            problems.add(f"{key}: names a seed twice", root.mark(key))


def _check_train(experiment: Experiment, root: Node, recipes: Collection[str], problems: Problems) -> None:
    """An option that no finetune step of the experiment has would silently do nothing."""
    if len({recipe.name for recipe in experiment.recipes}) < len(recipes):
        return  # a recipe with mistakes may be the one that has the option
    blocks = {type(s.blocks[0]) for r in experiment.recipes for s in r.steps if s.verb == "finetune"}
    known = {name for block in blocks for name in block.model_fields}
    for key in experiment.train.options:
        if key not in known:
            why = "" if blocks else " (no recipe has a finetune step)"
            problems.add(f"train: unknown option {key!r}{why}{nearest(key, known)}", root.mark("train", key))


def _check_gate(experiment: Experiment, root: Node, problems: Problems) -> None:
    if experiment.gate is None or not experiment.suites:
        return
    known: set[str] = set()
    for suite in experiment.suites:
        names = {metric.name for metric in suite.block.metrics()}
        known |= names | {f"{suite.name}/{name}" for name in names}
    for name in experiment.gate.margin:
        if name not in known:
            problems.add(f"gate: no suite measures {name!r}{nearest(name, known)}", root.mark("gate", "margin", name))


def _check_limits(experiment: Experiment, root: Node, problems: Problems) -> None:
    """A limit of money needs to know what a call can cost before it is made."""
    if experiment.limits is None or experiment.limits.usd is None:
        return
    for role, model in experiment.models.items():
        if model.url is not None and model.prices is None:
            text = (
                "write `prices: {prompt: ..., completion: ...}` in US dollars per million tokens (0 where it is free)"
            )
            problems.add(f"limits.usd: the served model {role} has no prices; {text}", root.mark("models", role))


def _check_feedback(experiment: Experiment, root: Node, problems: Problems) -> None:
    """Steering by the test split would make its scores worthless, so feedback needs a dev split."""
    if not experiment.suites or any("dev" in suite.block.splits() for suite in experiment.suites):
        return
    can = any(DEV in type(suite.block).model_fields for suite in experiment.suites)
    how = "write `dev: 20%` in the suite to set a part of its items aside (its scores then say subset)"
    other = "measure one that has, such as `pocket`, as well"
    for recipe in experiment.recipes:
        for step in recipe.steps:
            if any(_steers(block) for block in step.blocks):
                problems.add(
                    f"the step {step.name} of {recipe.name} reads feedback, but no suite has a dev split; "
                    f"{how if can else other}",
                    root.mark("suites"),
                )


def _steers(block: Any) -> bool:
    uses = getattr(block, "uses_feedback", None)
    return bool(uses is not None and uses())
