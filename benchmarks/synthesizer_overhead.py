"""A synthesizer's own work beside its engine's time: rendering, parsing, filtering, hashing, shard files, tables.

Run: python -m benchmarks.synthesizer_overhead [rows] [profile]

The real stage code makes rows with the pocket teacher, opened and warm before the clock starts. Engine time is that
inside the engine's `generate`; own work is the rest of the stage, from the first item to the committed artifact. Both
are CPU seconds of this process (one thread), so other jobs on the machine count for neither; wall times are given too.
Results go to benchmarks/results/synthesizer_overhead.json; `profile` lists the costliest functions of the own work.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import cProfile
import json
import platform
import pstats
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.blocks import registry
from harness.blocks.kinds import Synthesizer
from harness.blocks.prompts import load_pack
from harness.config import load_model
from harness.config.model import Dataset
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.models import binding_of
from harness.loop.stage import Binding, Input, Stage
from harness.loop.work import Job, run
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.synthesize.magpie import Magpie
from harness.synthesize.respond import Respond

LIMIT = 0.05
RESULT = Path(__file__).parent / "results" / "synthesizer_overhead.json"


@dataclass
class Watch:
    """An engine whose `generate` is timed; all else is passed on."""

    engine: Any
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    profile: cProfile.Profile | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def generate(self, requests: Any) -> list[Any]:
        """As the engine's, as a list."""
        if self.profile is not None:
            self.profile.disable()
        cpu, wall = time.process_time(), time.perf_counter()
        done = list(self.engine.generate(requests))
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        if self.profile is not None:
            self.profile.enable()
        return done


class Watched(Engines):
    """Engines that are all watched."""

    watch: Watch | None = None

    def get(self, binding: Binding, timer: Timer) -> Any:
        engine = super().get(binding, timer)
        if self.watch is None:
            self.watch = Watch(engine)
        return self.watch


def _stage(block: Synthesizer, binding: Binding, source: Stage | None) -> Stage:
    roles = block.roles()
    return Stage(
        action="synthesize",
        label=block.name,
        block=block,
        inputs=() if source is None else (Input(key=source.key, kind="data"),),
        models=dict.fromkeys(roles.values(), binding),
        roles=roles,
        seed=0,
        iteration=1,
        fingerprint={"prompts": load_pack(binding.spec.prompt_pack).digest},
    )


def _worked(stage: Stage, store: Store, engines: Engines) -> dict[str, Any]:
    keep, result = run(Job(stage, store, engines, Timer(), lambda done, total: None))
    return store.commit(stage.kind, stage.key, keep, result)


def _measured(stage: Stage, store: Store, engines: Watched, profile: cProfile.Profile | None) -> dict[str, Any]:
    watch = engines.watch
    if watch is None:
        raise SystemExit("the engine was not opened")
    watch.cpu.clear()
    watch.wall.clear()
    watch.profile = profile
    cpu, wall = time.process_time(), time.perf_counter()
    if profile is not None:
        profile.enable()
    manifest = _worked(stage, store, engines)
    if profile is not None:
        profile.disable()
    whole_cpu, whole_wall = time.process_time() - cpu, time.perf_counter() - wall
    engine = sum(watch.cpu)
    return {
        "rows": manifest["rows"],
        "dropped": sum(manifest["dropped"].values()),
        "engine_cpu_s": round(engine, 2),
        "own_cpu_s": round(whole_cpu - engine, 2),
        "own_share": round((whole_cpu - engine) / engine, 4),
        "engine_wall_s": round(sum(watch.wall), 2),
        "own_wall_s": round(whole_wall - sum(watch.wall), 2),
        "own_share_wall": round((whole_wall - sum(watch.wall)) / sum(watch.wall), 4),
    }


def main(rows: int, profiled: bool) -> None:
    """Warms up, measures each synthesizer once, writes the result."""
    import torch

    torch.set_num_threads(1)
    binding = binding_of(load_model("pocket/chat", registry))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="loopbench-") as folder:
        store = Store(Home(Path(folder)).prepare())
        engines = Watched(store, 1)
        pool = Dataset(name="pool", kind="pocket", options={"rows": rows, "seed": 0})
        source = Stage(action="source", label="data", data=pool, fingerprint={"data": "pool"})
        _worked(source, store, engines)
        _worked(_stage(Magpie(rows=64, max_tokens=64, response_max_tokens=64), binding, None), store, engines)
        blocks = {
            "magpie": _stage(Magpie(rows=rows, max_tokens=128, response_max_tokens=128), binding, None),
            "respond": _stage(Respond(model="teacher", max_tokens=128), binding, source),
        }
        for name, stage in blocks.items():
            profile = cProfile.Profile() if profiled else None
            found[name] = _measured(stage, store, engines, profile)
            print(f"{name:<10} {found[name]}", flush=True)
            if profile is not None:
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    if profiled:
        return
    about = {
        "what": "a synthesizer's own CPU time as a share of its engine's, pocket teacher, warm, one pass",
        "items": rows,
        "limit": LIMIT,
        "within_limit": all(one["own_share"] <= LIMIT for one in found.values()),
        "synthesizers": found,
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, one thread used, {platform.system()}",
        "versions": {n: version(n) for n in ("loopbench", "torch", "transformers", "pyarrow")},
        "load_average": round(os.getloadavg()[0], 1),
    }
    RESULT.write_text(json.dumps(about, indent=1) + "\n")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    numbers = [int(arg) for arg in sys.argv[1:] if arg.isdigit()]
    main(numbers[0] if numbers else 2000, "profile" in sys.argv)
