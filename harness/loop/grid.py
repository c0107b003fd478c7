"""The grid file: what an experiment planned, as one JSON document that analysis and tracking read.

It names cells, stages and suites by key, so whoever reads results needs neither the YAML files nor the planner. The
links under `runs/<experiment>/<recipe>/` are for people.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.blocks.prompts import load_pack
from harness.config.model import SuiteRef
from harness.loop.plan import Plan, judge_of
from harness.loop.stage import Stage
from harness.records.templates import template_hash
from harness.store.artifacts import Store


def grid_document(plan: Plan) -> dict[str, Any]:
    """The grid of a plan, as JSON values."""
    e = plan.experiment
    return {
        "experiment": e.name,
        "plan_key": plan.key,
        "resolved": e.resolved,
        "suites": {suite.name: _suite(plan, suite) for suite in e.suites},
        "baseline": e.baseline,
        "leaks": e.leaks.model_dump(mode="json"),
        "gate": e.gate.model_dump(mode="json") if e.gate else None,
        "cells": [cell.to_json() | {"variation": dict(e.recipe(cell.recipe).variation)} for cell in plan.cells],
        "untuned": {student: turn.to_json() for student, turn in plan.untuned.items()},
        "stages": {key: _stage(stage) for key, stage in plan.stages.items()},
        "templates": {student: _template(plan, student) for student in e.students},
    }


def _template(plan: Plan, student: str) -> str | None:
    """The hash of a student's chat template; None for one that a server renders or that is built from nothing."""
    path = plan.experiment.models[student].path
    return template_hash(Path(path)) if path is not None else None


def _suite(plan: Plan, suite: SuiteRef) -> dict[str, Any]:
    judge = judge_of(suite)
    metrics = [asdict(m) for m in suite.block.metrics()]
    return {
        "block": suite.block_name,
        "version": suite.block.version,
        "scorer": suite.block.scorer,
        "options": suite.block.identity_options(),
        "items": {split: suite.block.fingerprint(split) for split in suite.block.splits()},
        "label": judge.label if judge is not None else "",
        "judge": _judge(plan, suite),
        "stand_in": bool(judge is not None and judge.stand_in),
        "real": suite.block_name != "pocket",
        "metrics": metrics,
        "notes": list(suite.block.notes()),
        "headline": metrics[0]["name"],
    }


def _judge(plan: Plan, suite: SuiteRef) -> dict[str, Any] | None:
    """All that makes a judge the same judge: scores under unlike ones are not compared."""
    judge = judge_of(suite)
    if judge is None:
        return None
    about = {"block": judge.name, "version": judge.version, "options": judge.identity_options(), "model": None}
    binding = next(
        (s.models["judge"] for s in plan.stages.values() if s.suite == suite.name and "judge" in s.models), None
    )
    if binding is None:
        return about
    spec = binding.spec
    return about | {
        "model": spec.name,
        "revision": binding.stage or spec.revision,
        "dtype": spec.dtype,
        "engine": spec.engine,
        "prompts": load_pack(spec.prompt_pack).digest,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "kind": stage.kind,
        "action": stage.action,
        "label": stage.label,
        "block": stage.name,
        "version": stage.block.version if stage.block is not None else None,
        "suite": stage.suite,
        "split": stage.split,
        "parents": list(stage.parents),
        "inputs": [i.key for i in stage.inputs],
        "reads": [asdict(i) for i in stage.inputs],
        "models": {
            role: {"name": b.spec.name, "stage": b.stage, "engine": b.spec.engine, "dtype": b.spec.dtype}
            | ({"why": b.spec.why} if b.spec.why else {})
            for role, b in stage.models.items()
        },
        "options": stage.block.model_dump(mode="json") if stage.block is not None else {},
    }


def link_runs(plan: Plan, store: Store) -> None:
    """Makes `runs/<experiment>/<recipe>/<student>-s<seed>/i<iteration>-<step>` point to finished artifacts."""
    root = store.home.runs / plan.experiment.name
    for cell in plan.cells:
        folder = root / cell.recipe / f"{cell.student}-s{cell.seed}-d{cell.data_seed}"
        for turn in cell.turns:
            for step, key in turn.steps.items():
                _link(folder / f"i{turn.iteration}-{step}", store.path(plan.stages[key].kind, key))
            for suite, splits in turn.grades.items():
                for split, key in splits.items():
                    _link(folder / f"i{turn.iteration}-{suite}-{split}".replace("/", "-"), store.path("grades", key))


def _link(link: Path, target: Path) -> None:
    if not target.exists():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(target, link.parent)
    if link.is_symlink() and str(link.readlink()) == relative:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(relative)
