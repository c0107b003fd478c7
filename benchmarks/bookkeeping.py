"""What a stage costs besides its own work: lease, messages, hashing, manifest, flushing, journal, scheduling.

    python benchmarks/bookkeeping.py [--stages 200] [--small]

Trivial stages (`select: sample` of eight rows) go one after the other through the real coordinator and one real worker
process. Bookkeeping of a stage is the time from the end of the one before to its own end, by the journal, without what
the stage's own timer measured of its work: it holds two flushed journal lines, the flushed files and folders of the
artifact, the lock, and two messages. The target is 30 ms at the median. For comparison one flush of a small file and of
its folder is timed on the same disk. Nothing else may run. Result: benchmarks/results/bookkeeping.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from _machine import RESULTS, machine, quiet, versions, write

quiet()

EXPERIMENT = """
experiment: bookkeeping
models: {student: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/defects, options: {rows: 8}}}
suites: [{use: pocket, count: 8, dev_count: 8}]
recipes: [{recipe: pick, steps: [{select: sample, keep: 4}]}]
"""
LIMIT_MS = 30.0


def planned(folder: Path, count: int) -> Any:
    """A plan of one source and `count` selections from it, each with a seed of its own."""
    from harness import api

    path = folder / "bookkeeping.yaml"
    path.write_text(EXPERIMENT)
    plan = api.plan(str(path))
    source = next(stage for stage in plan.stages.values() if stage.action == "source")
    sample = next(stage for stage in plan.stages.values() if stage.action == "select")
    picks = [replace(sample, seed=seed, label=f"sample {seed}") for seed in range(count)]
    return replace(plan, cells=(), stages={stage.key: stage for stage in (source, *picks)})


def measure(folder: Path, count: int) -> dict[str, list[float]]:
    """Milliseconds per stage: bookkeeping, the stage's own work, and of the bookkeeping what the commit took."""
    from harness.loop.run import run
    from harness.store import journal
    from harness.store.home import Home

    home = Home(folder / "home")
    outcome = run(planned(folder, count), home, workers=1)
    if outcome.exit_code or len(outcome.done) != count + 1:
        raise SystemExit(f"{len(outcome.done)} of {count + 1} stages done: {outcome.failed}")
    finished = [e for e in journal.read(home.journal_file("bookkeeping")) if e["event"] == "stage_finished"]
    found: dict[str, list[float]] = {"bookkeeping": [], "own_work": [], "commit": []}
    for before, event in pairwise(finished[1:]):  # the worker starts with the first one
        own, commit = event["timing"]["wall"], event["timing"].get("commit", 0.0)
        found["bookkeeping"].append(1e3 * (event["time"] - before["time"] - own))
        found["own_work"].append(1e3 * own)
        found["commit"].append(1e3 * commit)
    return found


def flushes(folder: Path, count: int) -> list[float]:
    """Milliseconds to write, flush and rename one small file and flush its folder."""
    from harness.store.atomic import write_bytes

    took = []
    for number in range(count):
        begin = time.perf_counter()
        write_bytes(folder / f"file-{number}", b"x" * 1000)
        took.append(1e3 * (time.perf_counter() - begin))
    return took


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"median_ms": statistics.median(ordered), "p90_ms": ordered[int(0.9 * (len(ordered) - 1))]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--small", action="store_true", help="20 stages: tries the script")
    parser.add_argument("--folder", type=Path, help="where the store is made (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, default=RESULTS / "bookkeeping.json")
    options = parser.parse_args()
    count = 20 if options.small else options.stages
    before = machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.chdir(folder)
        found = measure(Path(folder), count)
        disk = summary(flushes(Path(folder), min(count, 100)))
    parts = {name: summary(values) for name, values in found.items()}
    result = {
        "stages": count,
        "small": options.small,
        "machine": before,
        "versions": versions(),
        **parts,
        "one_flushed_file": disk,
        "limit_ms": LIMIT_MS,
        "holds": parts["bookkeeping"]["median_ms"] <= LIMIT_MS,
    }
    write(options.json, result)


if __name__ == "__main__":
    main()
