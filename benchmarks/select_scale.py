"""Millions of rows through two selections: `top` (10 % by a score) and `dedup` with near duplicates; memory and time.

    python benchmarks/select_scale.py [--rows 3000000] [--small] [--work DIR]

Synthetic conversations (30 to 100 words; a tenth of the prompts said before, a tenth said before but for one word) are
written once, as three tables of a third of the rows each. Then each selection is worked on for one, two and three
tables, as a worker does it, by a process of its own, to a committed artifact. Of that process are taken: wall and
processor seconds, the peak of its proportional memory (PSS, sampled every quarter of a second), and the peak of its
resident memory as the kernel counts it (`ru_maxrss`), which shares with others and so is the stricter one. The exponent
is the slope of log(processor seconds) over log(rows): 1 is linear.

It exits with 1 where a limit is missed: 2 GiB, an exponent of 1.15, 10,000 rows of near-duplicate search per second of
wall time on two cores. DIR, by default the system's temporary folder, takes some 2 KB per row.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from _machine import RESULTS, machine, quiet, versions, write
from select_memory import conversation

LIMIT_MIB, EXPONENT, ROWS_PER_S = 2048, 1.15, 10_000
TABLES = 3
EVERY = 0.25
"""Seconds between two looks at a process's memory."""


def fill(home: Path, table: int, rows: int) -> Any:
    """Writes one table as an artifact of its own; returns the input that names it."""
    from harness.loop.stage import Input
    from harness.records import table as tables
    from harness.records.example import Example
    from harness.store.artifacts import Store
    from harness.store.home import Home

    def made() -> Iterator[Example]:
        for number in range(table * rows, (table + 1) * rows):
            row = conversation(f"r{number}")
            yield replace(row, scores={"length": float(len((row.answer or "").split()))})

    store, key = Store(Home(home).prepare()), f"table-{table}-{rows}"
    folder = store.work("rows", key)
    tables.write(folder / "rows.parquet", made())
    tables.write_dropped(folder / "dropped.parquet", ())
    store.commit("rows", key, ("rows.parquet", "dropped.parquet"), {"rows": rows, "dropped": {}})
    return Input(key=key)


def work(home: Path, stage: Any, report: Any) -> None:
    """One stage, in a process of its own; sends what it took."""
    from harness.loop.clock import Timer
    from harness.loop.desk import Engines
    from harness.loop.work import Job, run
    from harness.store.artifacts import Store
    from harness.store.home import Home

    store = Store(Home(home).prepare())
    wall, cpu = time.perf_counter(), time.process_time()
    keep, result = run(Job(stage, store, Engines(store, 1), Timer(), lambda done, total: None))
    store.commit(stage.kind, stage.key, keep, result)
    took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report.put({"kept": result["rows"], "dropped": result["dropped"], "peak_resident_mib": round(peak), **took})


def pss(process: int) -> float:
    """MiB that a process has now, with its part of what it shares; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration):
        return 0.0


def measured(home: Path, stage: Any, rows: int) -> dict[str, Any]:
    """What a stage took; its artifact is removed."""
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    child = context.Process(target=work, args=(home, stage, report))
    child.start()
    peak = 0.0
    while child.is_alive():
        peak = max(peak, pss(child.pid or 0))
        child.join(EVERY)
    if child.exitcode != 0:
        raise SystemExit(f"{stage.label} of {rows:,} rows ended with code {child.exitcode}")
    found: dict[str, Any] = {"rows": rows, **report.get(), "peak_pss_mib": round(peak) or None}
    shutil.rmtree(home / "store" / stage.kind / stage.key)
    found |= {"rows_per_s": round(rows / found["wall_s"]), "rows_per_cpu_s": round(rows / found["cpu_s"])}
    print(f"{stage.label:<28} {found}", flush=True)
    return found


def exponent(runs: list[dict[str, Any]]) -> float:
    """The slope of log(processor seconds) over log(rows)."""
    logs = [(math.log(run["rows"]), math.log(run["cpu_s"])) for run in runs]
    return statistics.linear_regression([x for x, _ in logs], [y for _, y in logs]).slope


def selections(home: Path, rows: int) -> dict[str, list[dict[str, Any]]]:
    """Each selection's runs, of one table, of two, of three."""
    from harness.loop.stage import Stage
    from harness.records.values import Amount
    from harness.select.dedup import Dedup
    from harness.select.top import Top

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        inputs = pool.starmap(fill, [(home, table, rows // TABLES) for table in range(TABLES)], chunksize=1)
    print(f"{rows:,} rows written", flush=True)
    blocks = {"top 10 %": Top(by="length", keep=Amount(share=0.1)), "near duplicates, 0.8": Dedup(near=0.8)}
    return {
        name: [
            measured(
                home,
                Stage(action="select", label=name, block=block, inputs=tuple(inputs[:count]), seed=0),
                count * (rows // TABLES),
            )
            for count in range(1, TABLES + 1)
        ]
        for name, block in blocks.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--small", action="store_true", help="30,000 rows: does it run?")
    parser.add_argument("--work", type=Path, help="where the tables are written")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "select_scale.json")
    options = parser.parse_args()
    quiet(min(2, os.cpu_count() or 1))
    os.environ.setdefault("RAYON_NUM_THREADS", "2")
    rows = 30_000 if options.small else options.rows
    before = machine()
    with tempfile.TemporaryDirectory(prefix="loopbench-", dir=options.work) as folder:
        found = selections(Path(folder), rows)
    near = found["near duplicates, 0.8"][-1]
    last = [runs[-1] for runs in found.values()]
    exponents = {name: round(exponent(runs), 3) for name, runs in found.items()}
    peak = max(max(run["peak_resident_mib"], run["peak_pss_mib"] or 0) for run in last)
    result = {
        "benchmark": "select_scale",
        "machine": before,
        "versions": versions(("loopbench", "pyarrow", "pandas", "numpy", "rensa")),
        "rows": rows,
        "runs": found,
        "peak_mib": peak,
        "exponents": exponents,
        "near_rows_per_s": near["rows_per_s"],
        "near_rows_per_cpu_s": near["rows_per_cpu_s"],
        "must": {"peak_mib": LIMIT_MIB, "exponent": EXPONENT, "near_rows_per_s": ROWS_PER_S},
    }
    result["met"] = {
        "peak_mib": peak <= LIMIT_MIB,
        "exponent": max(exponents.values()) <= EXPONENT,
        "near_rows_per_s": near["rows_per_s"] >= ROWS_PER_S,
    }
    write(options.output, result)
    return 0 if options.small or all(result["met"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
