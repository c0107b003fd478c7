"""Peak memory of selecting from many rows: score, top, dedup, each as the stage that an experiment runs.

Run: python -m benchmarks.select_memory [rows] [--near] [--vectors]

Synthetic conversations (about 70 words; a tenth of the prompts repeated, a tenth repeated with one word changed) are
written once as a table. Then every stage is worked on as a worker does it, each by a process of its own, whose peak
resident memory (`ru_maxrss`) and CPU seconds are taken when it ends: `length` (row by row), `top` (half), `dedup`
(equal prompts; with --near also of similarity 0.8), and two steps that must hold much: `dedup` of all rows, a scorer
of whole tables. --vectors adds `neighbours` over 384 numbers per row (`hnsw`; `flat` up to 100,000 rows: its work grows
with the square) and `kmeans` (10 clusters: more cost time, not memory), of all rows and in mini-batches. Results go to
benchmarks/results/select_memory.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import random
import resource
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.blocks.base import Block
from harness.blocks.kinds import Columns, Context, Item, Made, Reply, Request, Scorer, Synthesizer, TableScorer
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.stage import Input, Stage
from harness.loop.work import Job, run
from harness.records.example import Example, Message
from harness.records.values import Amount
from harness.select.dedup import Dedup
from harness.select.kmeans import Clusters
from harness.select.length import Length
from harness.select.neighbours import Neighbours
from harness.select.top import Top
from harness.store.artifacts import Store
from harness.store.home import Home

if TYPE_CHECKING:
    import pandas as pd

LIMIT_MIB = 2048
FLAT_ROWS = 100_000
RESULT = Path(__file__).parent / "results" / "select_memory.json"
WORDS = [
    f"{a}{b}" for a in ("red", "blue", "old", "new", "far", "low") for b in ("dog", "tree", "hill", "song", "boat")
]
_REPEATED = 0.1


class Synthetic(Synthesizer):
    """So many conversations made from nothing; `ROWS` in the environment says how many."""

    name: ClassVar[str] = "synthetic"
    reads_rows: ClassVar[bool] = False

    def items(self, rows: Any, context: Context) -> Iterator[Item]:
        return (Item(id=f"r{number}") for number in range(int(os.environ["ROWS"])))

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        yield from ()
        return [conversation(item.id)]


class Directions(Scorer):
    """A vector of 384 numbers per row, in place of an embedder's."""

    name: ClassVar[str] = "directions"

    def columns(self) -> tuple[str, ...]:
        return ("vector:embedding",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        import numpy as np

        yield from ()
        seeds = (random.Random(row.id).getrandbits(64) for row in batch)
        made = [np.random.default_rng(seed).normal(size=384).astype(np.float32) for seed in seeds]
        return {"vector:embedding": made}


class Rank(TableScorer):
    """The rank of each row's length."""

    name: ClassVar[str] = "rank"

    def columns(self) -> tuple[str, ...]:
        return ("rank",)

    def needs(self) -> tuple[str, ...]:
        return ("length",)

    def score_table(self, table: pd.DataFrame, context: Context) -> Columns:
        return {"rank": table["length"].rank().tolist()}


def conversation(name: str) -> Example:
    """The conversation with this name (`r<number>`): always the same one; a fifth of them repeat an earlier prompt."""
    rng = random.Random(name)
    kind = rng.random()
    if kind < 2 * _REPEATED:  # an earlier row's prompt again, half of them with another first word
        rng = random.Random(f"r{rng.randrange(max(1, int(name[1:])))}")
        rng.random()
    words = rng.choices(WORDS, k=30)
    if kind < _REPEATED:
        words[0] = name
    answer = " ".join(rng.choices(WORDS, k=rng.randrange(10, 70)))
    turns = (
        Message(role="user", content=f"{' '.join(words)}, {rng.random()}?"),
        Message(role="assistant", content=answer),
    )
    return Example(id=name, messages=turns)


def _work(home: Path, stage: Stage, report: Any) -> None:
    """One stage in a process of its own; sends what it took."""
    store, start = Store(Home(home).prepare()), time.process_time()
    engines = Engines(store, 1)
    keep, result = run(Job(stage, store, engines, Timer(), lambda done, total: None))
    store.commit(stage.kind, stage.key, keep, result)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = {"rows": result["rows"], "dropped": result["dropped"]}
    report.put({"peak_mib": round(used / 1024), "cpu_seconds": round(time.process_time() - start, 1), **kept})


def _measured(home: Path, stage: Stage) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    child = context.Process(target=_work, args=(home, stage, report))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise SystemExit(f"{stage.label} ended with code {child.exitcode}")
    found: dict[str, Any] = report.get()
    return found


def _stage(action: Literal["synthesize", "score", "select"], block: Block, parent: Stage | None) -> Stage:
    inputs = () if parent is None else (Input(key=parent.key),)
    return Stage(action=action, label=block.name, block=block, inputs=inputs, seed=0)


def main(rows: int, near: bool, vectors: bool) -> None:
    """Works on the stages one after the other and writes the result."""
    os.environ["ROWS"] = str(rows)
    made = _stage("synthesize", Synthetic(), None)
    scored = _stage("score", Length(), made)
    half = _stage("select", Top(by="length", keep=Amount(share=0.5)), scored)
    stages = {
        "synthesize (no model)": made,
        "score: length": scored,
        "select: top 50%": half,
        "select: dedup, of the half": _stage("select", Dedup(), half),
        "select: dedup, of all": _stage("select", Dedup(), scored),
        "score: a table scorer": _stage("score", Rank(), scored),
    }
    if near:
        stages["select: dedup near 0.8, of all"] = _stage("select", Dedup(near=0.8), scored)
    if vectors:
        placed = _stage("score", Directions(), made)
        stages["score: 384 numbers per row"] = placed
        stages["score: neighbours, hnsw"] = _stage("score", Neighbours(index="hnsw"), placed)
        stages["select: kmeans, of all"] = _stage("select", Clusters(clusters=10, per_cluster=100), placed)
        stages["select: kmeans, in batches"] = _stage(
            "select", Clusters(clusters=10, per_cluster=100, batch=4096), placed
        )
        if rows <= FLAT_ROWS:  # the work grows with the square
            stages["score: neighbours, flat"] = _stage("score", Neighbours(), placed)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="loopbench-", dir=os.environ.get("BENCH_DIR")) as folder:
        for name, stage in stages.items():
            found[name] = _measured(Path(folder), stage)
            print(f"{name:<38} {found[name]}", flush=True)
        bytes_ = sum(f.stat().st_size for f in (Path(folder) / "store" / "rows" / made.key).iterdir())
    peak = max(one["peak_mib"] for one in found.values())
    about = {
        "what": "peak resident memory of a worker process per stage, MiB",
        "rows": rows,
        "table_mib": round(bytes_ / 2**20),
        "limit_mib": LIMIT_MIB,
        "peak_mib": peak,
        "within_limit": peak < LIMIT_MIB,
        "stages": found,
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {n: version(n) for n in ("loopbench", "pyarrow", "pandas", "numpy")}
        | {"python": platform.python_version()},
        "load_average": round(os.getloadavg()[0], 1),
    }
    RESULT.write_text(json.dumps(about, indent=1) + "\n")
    print(f"peak {peak} MiB, limit {LIMIT_MIB} MiB; written to {RESULT}")


if __name__ == "__main__":
    numbers = [int(arg) for arg in sys.argv[1:] if arg.isdigit()]
    main(numbers[0] if numbers else 1_000_000, "--near" in sys.argv, "--vectors" in sys.argv)
