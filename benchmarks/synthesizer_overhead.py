"""A synthesizer's own work beside its engine's time: rendering, parsing, filtering, hashing, shard files, tables.

    python benchmarks/synthesizer_overhead.py [--rows N] [--only NAME]... [--profile]

The real stages of real recipes make rows with the pocket teacher, opened and warm before the clock starts: magpie, its
second turn (`extend`), self_instruct, respond, rewrite behind `classify` and `retrieve`, and both LAB pipelines, whose
draws are raised until they write as many questions as there are rows. Engine time is that inside the engine's
`generate`; own work is the rest of the stage, from the first item to the committed artifact. Both are CPU seconds of
this process (one thread), so other jobs on the machine count for neither; wall times are given too. `rows_sha256` tells
whether another version of the code makes the same rows.

Results of full size go to benchmarks/results/synthesizer_overhead.json, each beside those of synthesizers that were not
measured this time; `--profile` lists the costliest functions of the own work instead.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import pstats
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _machine import RESULTS, machine, quiet, versions, write

from harness.blocks import registry
from harness.config import load
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.plan import plan
from harness.loop.stage import Binding, Stage
from harness.loop.work import Job, run
from harness.records import sources
from harness.records.example import Example
from harness.store.artifacts import Store
from harness.store.home import Home

quiet()

LIMIT, FULL, WARM = 0.05, 2000, 32
RESULT = RESULTS / "synthesizer_overhead.json"
CAPS = {"max_tokens": 128, "response_max_tokens": 128}
NAMES = ("magpie", "extend", "self_instruct", "respond", "rewrite", "lab_skills", "lab_knowledge")
BEFORE = {"rewrite": ("classify", "retrieve")}
"""Steps whose only purpose is the one after them: their time is given too."""


@dataclass
class Watch:
    """An engine whose `generate` is timed; all else is passed on."""

    engine: Any
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    requests: int = 0
    profile: cProfile.Profile | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def generate(self, requests: Any) -> list[Any]:
        """As the engine's, as a list."""
        if self.profile is not None:
            self.profile.disable()
        self.requests += len(requests)
        cpu, wall = time.process_time(), time.perf_counter()
        done = list(self.engine.generate(requests))
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        if self.profile is not None:
            self.profile.enable()
        return done


class Watched(Engines):
    """Engines that are all one watched teacher."""

    watch: Watch | None = None

    def get(self, binding: Binding, timer: Timer) -> Any:
        engine = super().get(binding, timer)
        if self.watch is None:
            self.watch = Watch(engine)
        return self.watch


def experiment(rows: int) -> dict[str, Any]:
    """The recipes whose stages are measured; what comes after the synthesis is never run."""
    made = {"synthesize": "magpie", "model": "teacher", "rows": rows, **CAPS}
    tuned = {"finetune": "sft"}
    turns = [made, {"synthesize": "extend", "model": "teacher", **CAPS}, tuned]
    answers = [{"synthesize": "respond", "model": "teacher", "max_tokens": 128}, tuned]
    return {
        "experiment": "overhead",
        "models": {"student": "pocket/base", "teacher": "pocket/chat", "judge": "pocket/oracle"},
        "data": {
            "pool": {"use": "pocket/defects", "options": {"rows": rows}},
            "labelled": "pocket/labelled",
            "documents": "pocket/taxonomy",
            "taxonomy": "pocket/taxonomy",
        },
        "recipes": [
            {"recipe": "turns", "steps": turns},
            {"recipe": "answers", "steps": answers},
            "magpie-self-instruct",
            "realign",
            "lab",
        ],
        "suites": ["pocket"],
    }


def stages(rows: int, folder: Path) -> dict[str, Stage]:
    """All stages by key, for `rows` attempts of each synthesizer."""
    path = folder / f"overhead-{rows}.yaml"
    path.write_text(json.dumps(experiment(rows)))
    loaded = load(path, registry)
    rows_of = [row for row in sources.load(loaded.data["taxonomy"]) if isinstance(row, Example)]
    parts = [f"{row.tags['leaf_kind']}/{row.tags['part']}" for row in rows_of]
    seeds, documents = parts.count("freeform/seed"), parts.count("knowledge/document")
    sizes = {
        "magpie-self-instruct.self_instruct.rows": rows,
        "lab.lab_skills.draws": max(2, -(-rows // seeds)),
        "lab.lab_knowledge.draws": max(2, -(-rows // documents)),
    }
    return dict(plan(load(path, registry, [f"{name}={value}" for name, value in sizes.items()])).stages)


def parents(stage: Stage) -> Iterator[str]:
    """Keys of the rows that a stage reads."""
    for rows in (stage.inputs, *stage.sources.values()):
        yield from (row.key for row in rows)


@dataclass
class Bench:
    """Does stages once each, in a store of its own, with one teacher."""

    store: Store
    engines: Watched
    known: Mapping[str, Stage]
    spent: dict[str, float] = field(default_factory=dict)
    """CPU seconds of each stage that was done, by its block's name."""

    def worked(self, stage: Stage) -> dict[str, Any]:
        """Its manifest; what it reads is done before."""
        for key in parents(stage):
            self.ready(self.known[key])
        cpu = time.process_time()
        keep, result = run(Job(stage, self.store, self.engines, Timer(), lambda done, total: None))
        manifest = self.store.commit(stage.kind, stage.key, keep, result)
        self.spent[stage.name] = time.process_time() - cpu
        return manifest

    def ready(self, stage: Stage) -> None:
        """Does a stage that is not done."""
        if not self.store.done(stage.kind, stage.key):
            self.worked(stage)

    def named(self, name: str) -> Stage:
        """The stage of a synthesizer."""
        return next(stage for stage in self.known.values() if stage.action == "synthesize" and stage.name == name)

    def block(self, name: str) -> Any:
        """The options of a synthesizer."""
        return self.named(name).block

    def measured(self, name: str, profile: cProfile.Profile | None) -> dict[str, Any]:
        """The figures of one synthesizer."""
        stage, watch = self.named(name), self.engines.watch
        if watch is None:
            raise SystemExit("the engine was not opened")
        for key in parents(stage):
            self.ready(self.known[key])
        watch.cpu.clear()
        watch.wall.clear()
        watch.requests, watch.profile = 0, profile
        cpu, wall = time.process_time(), time.perf_counter()
        if profile is not None:
            profile.enable()
        manifest = self.worked(stage)
        if profile is not None:
            profile.disable()
        watch.profile = None
        whole, whole_wall = time.process_time() - cpu, time.perf_counter() - wall
        engine, engine_wall = sum(watch.cpu), sum(watch.wall)
        found = {
            "rows": manifest["rows"],
            "dropped": sum(manifest["dropped"].values()),
            "requests": watch.requests,
            "engine_cpu_s": round(engine, 2),
            "own_cpu_s": round(whole - engine, 2),
            "own_share": round((whole - engine) / engine, 4),
            "engine_wall_s": round(engine_wall, 2),
            "own_wall_s": round(whole_wall - engine_wall, 2),
            "own_share_wall": round((whole_wall - engine_wall) / engine_wall, 4),
        }
        if steps := BEFORE.get(name):
            before = {step: round(self.spent[step], 2) for step in steps}
            found |= {"steps_before_cpu_s": before, "own_share_with_them": _share(whole - engine, before, engine)}
        return found | {"rows_sha256": digest(self.store, stage), "load": machine()["load"]}


def _share(own: float, before: Mapping[str, float], engine: float) -> float:
    return round((own + sum(before.values())) / engine, 4)


def digest(store: Store, stage: Stage) -> str:
    """Hash of all rows, kept and dropped, in their order, with all columns."""
    import pyarrow.parquet as pq

    folder, found = store.open(stage.kind, stage.key), hashlib.sha256()
    for name in (ROWS, DROPPED):
        for row in pq.read_table(folder / name).to_pylist():
            found.update(json.dumps(row, sort_keys=True).encode())
    return found.hexdigest()


def main() -> None:
    """Warms up, measures each synthesizer once, writes the result."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=FULL, help=f"attempts of each; other than {FULL}: only printed")
    parser.add_argument("--only", action="append", choices=NAMES, help="a synthesizer; may be given again")
    parser.add_argument("--profile", action="store_true", help="list the costliest functions; write nothing")
    options = parser.parse_args()
    chosen = [name for name in NAMES if name in (options.only or NAMES)]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="loopbench-") as folder:
        store = Store(Home(Path(folder)).prepare())
        engines = Watched(store, 1)
        warm = Bench(store, engines, stages(WARM, Path(folder)))
        bench = Bench(store, engines, stages(options.rows, Path(folder)))
        for name in chosen:
            warm.ready(warm.named(name))
            profile = cProfile.Profile() if options.profile else None
            found[name] = bench.measured(name, profile)
            print(f"{name:<14} {found[name]}", flush=True)
            if profile is not None:
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    if options.rows == FULL and not options.profile:
        record(found, {name: bench.block(name).draws for name in NAMES if name.startswith("lab_")})


def record(found: Mapping[str, Any], draws: Mapping[str, int]) -> None:
    """Writes the figures beside those that were not measured this time; each has the load that it found."""
    before = json.loads(RESULT.read_text())["synthesizers"] if RESULT.exists() else {}
    every = {name: found.get(name, before.get(name)) for name in NAMES if name in found or name in before}
    about = {
        "what": "a synthesizer's own CPU time as a share of its engine's, pocket teacher, warm, one pass",
        "items": FULL,
        "size": "attempts: rows, wanted instructions, or questions drawn from the taxonomy's seeds and documents",
        "draws": dict(draws),
        "limit": LIMIT,
        "within_limit": all(one["own_share"] <= LIMIT for one in every.values()),
        "synthesizers": every,
        "machine": machine(),
        "versions": versions() | versions(("pyarrow", "scikit-learn", "rapidfuzz")),
    }
    write(RESULT, about)


if __name__ == "__main__":
    main()
