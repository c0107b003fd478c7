"""Scoring and statistics of 10 suites × 1,319 items × 12 cells through the product's own code, from text to table.

    python benchmarks/scoring_speed.py [--json benchmarks/results/scoring_speed.json]

`score`: raw answers to grades, with the number extraction that GSM8K's `numeric` metric uses, written as Parquet.
`items` to `table`: grades read back, aligned, compared with the baseline, corrected, printed. Exits with 1 where both
together take more than 5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.compare import compare
from harness.analysis.grid import read_grid
from harness.analysis.items import read_items
from harness.analysis.table import comparison_text
from harness.blocks.kinds import Grade, Metric
from harness.records import evaltables
from harness.records.hashing import file_sha256, sha256
from harness.records.numbers import same_number
from harness.store.artifacts import Store
from harness.store.home import Home

SUITES, ITEMS, SEEDS, LIMIT = 10, 1319, (0, 1, 2), 5.0
RECIPES = {"good": 0.62, "plain": 0.55, "same": 0.55, "worse": 0.5}
PACKAGES = ("loopbench", "numpy", "scipy", "pandas", "pyarrow")


class Timed:
    """Wall seconds by part, and processor seconds of all parts: on a busy machine the two differ."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu = 0.0

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        start, used = time.perf_counter(), time.process_time()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.cpu += time.process_time() - used
        return result


def answers(suite: int, rng: np.random.Generator, share: float) -> list[tuple[str, str]]:
    """(gold, answer) of one cell on one suite, of GSM8K's length and form; the gold answers are the suite's."""
    gold = np.random.default_rng(suite).integers(2, 90_000, ITEMS)
    given = np.where(rng.random(ITEMS) < share, gold, gold + 1)
    steps = "She has 12 boxes of 1,500 each, so 12 * 1500 = 18000 in all, less the 45 that broke.\n" * 4
    return [(f"{g}", f"{steps}That leaves {a:,} of them.\n#### {a:,}") for g, a in zip(gold, given, strict=True)]


def graded(pairs: list[tuple[str, str]]) -> list[Grade]:
    """Grades by the number that an answer ends with."""
    rows = []
    for place, (gold, text) in enumerate(pairs):
        right = same_number(text, f"#### {gold}")
        name = f"q/{place}"
        rows.append(Grade(id=name, item=name, cluster=name, category="", values={"numeric": float(right)}))
    return rows


def build(home: Home, timed: Timed) -> None:
    """Writes grid file, grades and manifests of an experiment as the loop leaves them."""
    store, stages = Store(home), {}
    suites = [f"suite-{k}" for k in range(SUITES)]

    def grade(recipe: str, seed: int) -> dict[str, Any]:
        keys = {}
        for place, suite in enumerate(suites):
            rng = np.random.default_rng([place, seed, len(recipe), ord(recipe[0])])
            made = answers(place, rng, RECIPES.get(recipe, 0.1) + 0.01 * rng.standard_normal())
            key = sha256([recipe, seed, suite])
            folder = store.path("grades", key)
            folder.mkdir(parents=True)
            path = folder / "grades.parquet"
            timed("score", lambda made=made, path=path: evaltables.write_grades(path, graded(made)))  # type: ignore[misc]
            manifest = {"rows": ITEMS, "cost": {}, "timing": {"wall": 1.0}, "files": {path.name: file_sha256(path)}}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            stages[key] = {"kind": "grades", "action": "grade", "label": f"grade {suite}", "models": {}}
            keys[suite] = {"test": key}
        return keys

    def turn(iteration: int, recipe: str, seed: int) -> dict[str, Any]:
        return {"iteration": iteration, "stages": [], "train": [], "answers": {}, "grades": grade(recipe, seed)}

    cells = [
        {"recipe": recipe, "student": "student", "seed": seed, "data_seed": 0, "iterations": [turn(1, recipe, seed)]}
        for recipe in RECIPES
        for seed in SEEDS
    ]
    facts = {
        "block": "lm_eval",
        "version": 1,
        "options": {},
        "items": {"test": "x"},
        "judge": None,
        "label": "",
        "stand_in": False,
        "real": True,
        "metrics": [asdict(Metric(name="numeric", binary=True))],
        "headline": "numeric",
    }
    grid = {
        "experiment": "speed",
        "plan_key": "k",
        "resolved": {},
        "suites": dict.fromkeys(suites, facts),
        "baseline": "plain",
        "gate": None,
        "cells": cells,
        "untuned": {"student": turn(0, "untuned", 0)},
        "stages": stages,
    }
    path = home.grid_file("speed")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(grid))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures, with versions, to this file")
    options = parser.parse_args()
    timed = Timed()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder)).prepare()
        build(home, timed)
        grid = timed("grid", lambda: read_grid(home.path, "speed"))
        frame = timed("items", lambda: read_items(grid))
        result = timed("compare", lambda: compare(frame, grid))
        text = timed("table", lambda: comparison_text(result))
    cells = len(RECIPES) * len(SEEDS)
    total = sum(timed.seconds.values())
    print(text.split("\n\n")[0])
    print(
        f"{SUITES} suites × {ITEMS:,} items × {cells} cells, {len(frame):,} grades (the untuned student's among them)"
    )
    for name, seconds in (timed.seconds | {"total": total, "(cpu)": timed.cpu}).items():
        print(f"{name:>8} {seconds:6.2f} s")
    if options.json is not None:
        about: dict[str, Any] = {"suites": SUITES, "items": ITEMS, "cells": cells}
        about |= {"seconds": timed.seconds, "total": total, "cpu": timed.cpu}
        about["load"] = os.getloadavg()[0]
        versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
        options.json.write_text(json.dumps(about | {"limit": LIMIT, "versions": versions}, indent=1) + "\n")
    return 0 if total <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
