"""Where the time of a run went: per stage and layer, as a table and as a trace that chrome://tracing and Perfetto open.

The trace is Chrome's JSON object form: one track per process (`ph: M` names it) and complete slices (`ph: X`, `ts` and
`dur` in microseconds from the run's beginning); a stage's slice holds those of its layers.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.loop.slices import Life
from harness.store.atomic import write_json
from harness.store.home import Home

Line = Mapping[str, Any]
FIRST = ("coordinator", "worker server", "worker")
"""Tracks in the order of the picture; what is named otherwise comes last."""


@dataclass(frozen=True)
class Spent:
    """Seconds of several stages (or of one process) by layer; `other` is what no layer covers."""

    name: str
    count: int
    seconds: float
    layers: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """The table of a profile, and where it is kept with the trace."""

    path: Path
    stages: tuple[Spent, ...]
    processes: tuple[Spent, ...]


@dataclass
class Profile:
    """A profile that is being taken of one run."""

    path: Path
    life: Life
    folder: Path
    begun: float = field(default_factory=time.time)

    @classmethod
    def begin(cls, home: Home, experiment: str) -> Profile:
        """A new profile of an experiment, in `profiles/` of the home."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        path = home.path / "profiles" / f"{experiment.replace('/', '-')}-{stamp}.json"
        folder = path.with_suffix(".parts")
        folder.mkdir(parents=True)
        return cls(path, Life(folder, "coordinator"), folder)

    def planned(self, begun: float) -> None:
        """Notes the planning, which was over before it was known where to note it; `begun` by `perf_counter`."""
        if self.life.slices is not None:
            self.life.slices.add("plan", begun, time.perf_counter() - begun)

    def finish(self) -> Summary:
        """Puts the files of all processes together; call it when all of them have ended."""
        tracks = sorted(_tracks(self.folder), key=lambda track: _place(track.process))
        start = min((slice_["begin"] for track in tracks for slice_ in track.slices), default=self.begun)
        events = [event for number, track in enumerate(tracks) for event in track.events(number, start)]
        stages = [s for track in tracks for s in track.slices if "layers" in s["about"]]
        summary = Summary(self.path, _by_block(stages), tuple(track.spent() for track in tracks))
        table = {"stages": [asdict(s) for s in summary.stages], "processes": [asdict(p) for p in summary.processes]}
        write_json(self.path, {"displayTimeUnit": "ms", "otherData": table, "traceEvents": events})
        shutil.rmtree(self.folder)
        return summary


@dataclass
class _Track:
    process: str
    pid: int
    start: float
    slices: list[Line] = field(default_factory=list)
    summary: Line = field(default_factory=dict)
    end: float | None = None

    def events(self, number: int, start: float) -> Iterator[dict[str, Any]]:
        at = {"pid": self.pid, "tid": self.pid}
        yield {"ph": "M", "name": "process_name", **at, "args": {"name": self.process}}
        yield {"ph": "M", "name": "process_sort_index", **at, "args": {"sort_index": number}}
        for one in sorted(self.slices, key=lambda s: (s["begin"], -s["seconds"])):
            category = "stage" if "layers" in one["about"] else "layer"
            times = {"ts": round((one["begin"] - start) * 1e6, 3), "dur": round(one["seconds"] * 1e6, 3)}
            yield {"ph": "X", "name": one["name"], "cat": category, **times, **at, "args": dict(one["about"])}

    def spent(self) -> Spent:
        """The whole life of the process; a killed one left no summary: then its slices that no other holds."""
        last = max((s["begin"] + s["seconds"] for s in self.slices), default=self.start)
        layers = {name: seconds for name, seconds in self.summary.items() if name not in ("wall", "cpu")}
        if not self.summary:
            layers = dict(_outermost(self.slices))
        first = min((s["begin"] for s in self.slices), default=self.start)
        return Spent(self.process, 1, (self.end or last) - min(first, self.start), layers)


def _tracks(folder: Path) -> Iterator[_Track]:
    for path in sorted(folder.glob("*.jsonl")):
        track: _Track | None = None
        for line in path.read_text().splitlines():
            try:
                noted = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue
            if "process" in noted:
                track = track or _Track(noted["process"], noted["pid"], noted["start"])
            elif track is not None and "summary" in noted:
                track.summary, track.end = noted["summary"], noted["end"]
            elif track is not None:
                track.slices.append(noted)
        if track is not None:
            yield track


def _outermost(slices: Sequence[Line]) -> Counter[str]:
    found, end = Counter[str](), 0.0
    for one in sorted(slices, key=lambda s: (s["begin"], -s["seconds"])):
        if one["begin"] >= end:
            found["stages" if "layers" in one["about"] else one["name"]] += one["seconds"]
            end = one["begin"] + one["seconds"]
    return found


def _place(process: str) -> tuple[int, str]:
    return next((n for n, name in enumerate(FIRST) if process.startswith(name)), len(FIRST)), process


def _by_block(stages: Sequence[Line]) -> tuple[Spent, ...]:
    """Sums by action and block, the dearest first."""
    layers: dict[str, Counter[str]] = {}
    counts, seconds = Counter[str](), Counter[str]()
    for stage in stages:
        about = stage["about"]
        name = about["action"] if about["block"] == about["action"] else f"{about['action']} {about['block']}"
        layers.setdefault(name, Counter()).update(
            {layer: spent for layer, spent in about["layers"].items() if layer not in ("wall", "cpu")}
        )
        counts[name] += about["stages"]
        seconds[name] += about["layers"]["wall"]
    return tuple(Spent(name, counts[name], total, dict(layers[name])) for name, total in seconds.most_common())
