"""A worker's memory after each stage of a 20-stage run: it must not grow, whatever came before.

    python benchmarks/stage_memory.py [--small]

One real worker process does trainings and evaluations of pocket models in turn: ten seeds of one recipe, so stages of
one kind are alike. After every stage the worker's proportional set size (PSS) and resident set size are read from the
system. The first stage of a kind loads what its kind needs; from its end on, no later stage of that kind may leave the
worker more than 5 % larger. Result: benchmarks/results/stage_memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from _machine import RESULTS, machine, quiet, versions, write

quiet()

EXPERIMENT = """
experiment: memory
models: {student: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/defects, options: {rows: ROWS}}}
suites: [{use: pocket, count: ITEMS, dev_count: 8}]
seeds: SEEDS
train: {learning_rate: 1e-3, epochs: 1}
recipes: [{recipe: pick, steps: [{finetune: sft}]}]
"""
LIMIT = 1.05
KINDS = ("finetune", "answer")
"""Stages that take memory; the others (grades, checks) run between them and are recorded too."""


class Watch:
    """Listens to a run; after each stage it reads the memory of the process that did it."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.found: list[dict[str, Any]] = []

    def __call__(self, event: str, stage: Any, data: Mapping[str, Any]) -> None:
        if event == "done":
            memory = psutil.Process(self._worker()).memory_full_info()
            mib = {"pss_mib": memory.pss / 2**20, "rss_mib": memory.rss / 2**20, "uss_mib": memory.uss / 2**20}
            self.found.append({"action": stage.action, "label": stage.label, **mib})

    def _worker(self) -> int:
        events = map(json.loads, self.journal.read_text().splitlines())
        return int([event["pid"] for event in events if event["event"] == "stage_started"][-1])


def growth(found: list[dict[str, Any]], kind: str, measure: str) -> float | None:
    """The largest later size over that after the first stage of a kind."""
    sizes = [one[measure] for one in found if one["action"] == kind]
    return max(sizes[1:]) / sizes[0] if len(sizes) > 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few rows and seeds: tries the script")
    parser.add_argument("--json", type=Path, default=RESULTS / "stage_memory.json")
    options = parser.parse_args()
    rows, items, seeds = (32, 16, 3) if options.small else (400, 200, 10)

    from harness import api
    from harness.store.home import Home

    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        home = Home(Path(folder) / "home")
        watch = Watch(home.journal_file("memory"))
        text = EXPERIMENT.replace("ROWS", str(rows)).replace("ITEMS", str(items)).replace("SEEDS", str(seeds))
        Path("memory.yaml").write_text(text)
        outcome = api.run("memory.yaml", workers=1, home=home, listener=watch)
        os.chdir("/")
    if outcome.exit_code:
        raise SystemExit(f"stages failed: {outcome.failed}")
    grown = {kind: {m: growth(watch.found, kind, m) for m in ("pss_mib", "rss_mib", "uss_mib")} for kind in KINDS}
    heavy = [one for one in watch.found if one["action"] in KINDS]
    result = {
        "small": options.small,
        "machine": before,
        "versions": versions(),
        "stages": len(watch.found),
        "heavy_stages": len(heavy),
        "growth": grown,
        "limit": LIMIT,
        "holds": all(kind["rss_mib"] is not None and kind["rss_mib"] <= LIMIT for kind in grown.values()),
        "after_each": watch.found,
    }
    write(options.json, result)


if __name__ == "__main__":
    main()
