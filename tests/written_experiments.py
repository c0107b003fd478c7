"""Experiments as the loop would leave them: grid file, grades and manifests, with scores drawn from a known truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.blocks.kinds import Grade, Metric
from harness.records import evaltables, hits
from harness.records.hashing import file_sha256, sha256
from harness.store.artifacts import Store
from harness.store.home import Home


@dataclass(frozen=True, kw_only=True)
class Written:
    """An experiment to write. `arms` maps a recipe to its true accuracy; `tokens` to trained tokens per cell."""

    name: str = "night"
    arms: Mapping[str, float] = field(default_factory=lambda: {"good": 0.7, "plain": 0.5, "same": 0.5})
    baseline: str | None = "plain"
    items: int = 400
    seeds: Sequence[int] = (0, 1, 2)
    data_seeds: Sequence[int] = (0,)
    iterations: int = 1
    seed_sd: float = 0.0
    world: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    """Recipe to the number of items without a grade, in each cell."""
    unfinished: Sequence[tuple[str, int]] = ()
    """(recipe, seed) whose last grades are not there."""
    other_items: Sequence[str] = ()
    """Recipes that were scored on other items."""
    suite: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] | None = None
    metric: Metric = field(default_factory=lambda: Metric(name="accuracy", binary=True))
    step_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dtype: Mapping[str, str] = field(default_factory=dict)
    scale: tuple[float, float] = (0.0, 1.0)
    """Values of a wrong and a right answer."""
    flagged: Mapping[str, int] = field(default_factory=dict)
    """Recipe to the number of items (the first ones) whose answers look like an attack on the judge."""
    leaked: Mapping[str, int] = field(default_factory=dict)
    """Recipe to the number of items (the first ones) that are in its training rows."""
    report: Mapping[str, float] = field(default_factory=dict)
    """What the suite sums up itself, the same in every cell but for `wobble` times the seed."""
    wobble: float = 0.0
    repeats: int = 1
    template: str | None = None


def write(home: Path, spec: Written) -> None:
    """Writes grid file, artifacts and an empty journal."""
    place = Home(home).prepare()
    writer = _Writer(spec, Store(place))
    grid = writer.grid()
    path = place.grid_file(spec.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(grid))


class _Writer:
    def __init__(self, spec: Written, store: Store) -> None:
        self.spec, self.store = spec, store
        self.stages: dict[str, dict[str, Any]] = {}
        self.difficulty = np.random.default_rng(7).normal(size=spec.items)

    def grid(self) -> dict[str, Any]:
        spec = self.spec
        suite = {
            "block": "pocket",
            "version": 1,
            "options": {"count": spec.items},
            "items": {"test": sha256(["items", spec.items])},
            "label": "ORACLE judge (programmatic)",
            "judge": {"block": "oracle", "version": 1, "model": None},
            "stand_in": True,
            "real": False,
            "metrics": [asdict(spec.metric)],
            "headline": spec.metric.name,
        } | dict(spec.suite)
        cells = [
            self.cell(recipe, seed, data) for recipe in spec.arms for data in spec.data_seeds for seed in spec.seeds
        ]
        untuned = self.grades("untuned", 0, 0, 0, 0.03)
        return {
            "experiment": spec.name,
            "plan_key": sha256([spec.name, spec.world]),
            "resolved": {
                "train": {"learning_rate": 0.001, "epochs": 3},
                "recipes": [
                    {"recipe": recipe, "steps": [{"finetune": "sft", "learning_rate": 0.001} | dict(options)]}
                    for recipe in spec.arms
                    for options in [spec.step_options.get(recipe, {})]
                ],
            },
            "suites": {"pocket": suite},
            "baseline": spec.baseline,
            "gate": spec.gate,
            "cells": cells,
            "untuned": {"student": self.turn(0, {"grades": {"pocket": {"test": untuned}}})},
            "stages": self.stages,
            "templates": {"student": spec.template},
        }

    def turn(self, iteration: int, parts: Mapping[str, Any]) -> dict[str, Any]:
        empty: dict[str, Any] = {"stages": [], "train": [], "answers": {}, "grades": {}, "model": None}
        return empty | {"iteration": iteration} | dict(parts)

    def cell(self, recipe: str, seed: int, data_seed: int) -> dict[str, Any]:
        turns = [self.iteration(recipe, seed, data_seed, i) for i in range(1, self.spec.iterations + 1)]
        return {
            "name": f"{recipe}/student/s{seed}",
            "recipe": recipe,
            "student": "student",
            "seed": seed,
            "data_seed": data_seed,
            "iterations": turns,
        }

    def iteration(self, recipe: str, seed: int, data_seed: int, iteration: int) -> dict[str, Any]:
        spec = self.spec
        made = self.stage(
            "rows", "synthesize", [recipe, data_seed, iteration], {"generated_tokens": 500}, role="teacher"
        )
        kept = self.stage("rows", "select", [recipe, data_seed, iteration], {}, dropped={"rank": 90, "duplicate": 7})
        tokens = spec.tokens.get(recipe, 41_000) // spec.iterations
        trained = self.stage("model", "finetune", [recipe, data_seed, seed, iteration], {"train_tokens": tokens})
        answers = self.stage("answers", "answer", [recipe, data_seed, seed, iteration], {}, role="model")
        self.stages[answers]["models"]["model"]["dtype"] = spec.dtype.get(recipe, "float32")
        grades = self.grades(recipe, seed, data_seed, iteration, spec.arms[recipe])
        found = [self.leaks(recipe, iteration)] if recipe in spec.leaked else []
        evaluation = {"answers": {"pocket": {"test": answers}}, "grades": {"pocket": {"test": grades}}}
        return self.turn(
            iteration, {"stages": [made, kept, trained, *found], "train": [trained], "leaks": found, **evaluation}
        )

    def leaks(self, recipe: str, iteration: int) -> str:
        items = [f"q{i}" for i in range(self.spec.leaked[recipe])]

        def prepare(path: Path) -> None:
            hits.write(path.parent / hits.HITS, [hits.Hit("r1", "pocket", "test", i, "words", 1.0, "x") for i in items])

        counts = {"items": self.spec.items, "examples": items[:2]}
        report = {"suites": {"pocket": {"test": counts}}}
        return self.stage("leaks", "leaks", [recipe, iteration], {}, prepare=prepare, report=report)

    def stage(
        self,
        kind: Any,
        action: str,
        parts: list[Any],
        cost: Mapping[str, int],
        *,
        dropped: Mapping[str, int] | None = None,
        role: str | None = None,
        done: bool = True,
        prepare: Any = None,
        report: Mapping[str, Any] | None = None,
    ) -> str:
        key = sha256([self.spec.name, self.spec.world, action, parts])
        models = {role: {"name": role, "stage": None, "engine": "transformers", "dtype": "float32"}} if role else {}
        self.stages[key] = {
            "kind": kind,
            "action": action,
            "label": f"{action} {parts}",
            "block": action,
            "models": models,
        }
        if done:
            folder = self.store.path(kind, key)
            folder.mkdir(parents=True, exist_ok=True)
            if prepare is not None:
                prepare(folder / "grades.parquet")
            manifest = {"rows": 100, "dropped": dict(dropped or {}), "cost": dict(cost), "timing": {"wall": 2.0}}
            manifest |= {"report": dict(report)} if report else {}
            files = {file.name: file_sha256(file) for file in folder.iterdir() if file.suffix == ".parquet"}
            # Not through the store's own commit: flushing hundreds of files to disk takes longer than all the tests.
            (folder / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
        return key

    def grades(self, recipe: str, seed: int, data_seed: int, iteration: int, accuracy: float) -> str:
        spec = self.spec
        rng = np.random.default_rng([spec.world, len(recipe), sum(map(ord, recipe)), seed, data_seed, iteration])
        level = accuracy + spec.seed_sd * rng.standard_normal()
        latent = 0.6 * self.difficulty + 0.8 * rng.standard_normal(spec.items)
        right = latent < np.sqrt(2) * _erfinv(2 * float(np.clip(level, 0.001, 0.999)) - 1)
        name = "other" if recipe in spec.other_items else "q"

        def prepare(path: Path) -> None:
            lost, flagged = spec.missing.get(recipe, 0), spec.flagged.get(recipe, 0)
            grades = [_grade(f"{name}{i}", spec, right[i], i < lost, i < flagged) for i in range(spec.items)]
            evaltables.write_grades(path, grades)

        last = iteration == spec.iterations
        done = not (last and (recipe, seed) in spec.unfinished)
        parts = [recipe, data_seed, seed, iteration]
        report = {n: v if n.endswith((".n", ".missing")) else v + spec.wobble * seed for n, v in spec.report.items()}
        return self.stage("grades", "grade", parts, {"judged_tokens": 0}, done=done, prepare=prepare, report=report)


def _grade(item: str, spec: Written, right: bool, lost: bool, flagged: bool) -> Grade:
    value = None if lost else spec.scale[bool(right)]
    missing = "no score in the verdict" if lost else None
    about: dict[str, Any] = {"tags": {"flag": "constant, verdict token"}} if flagged else {}
    if spec.repeats > 1 and value is not None:
        away = [0.5 * (-1) ** k for k in range(spec.repeats)]
        about["repeats"] = {spec.metric.name: tuple(value + step for step in away)}
    return Grade(
        id=item, item=item, cluster="", category="math", values={spec.metric.name: value}, missing=missing, **about
    )


def _erfinv(x: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(x))
