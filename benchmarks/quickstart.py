"""The quickstart on this machine: wall time cold and finished, where worker seconds go, memory, and `--help`.

    python benchmarks/quickstart.py [--json benchmarks/results/quickstart.json]

Targets: at most 180 s cold, 3 s finished without torch, `--help` at most twice `import click`, at most 3 % of worker
seconds outside engines and trainers (imports apart), at most 4 GiB for all processes together. Nothing else may run.
`loopbench run quickstart --profile` shows the same seconds by layer, and when each worker waited.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from _machine import machine

PACKAGES = ("loopbench", "torch", "transformers", "trl", "mlflow")
FINISHED = """
import sys
from harness.cli.main import main
code = main(["run", "{name}"], standalone_mode=False)
heavy = [name for name in ("torch", "transformers", "mlflow") if name in sys.modules]
print("imported:", ",".join(heavy) or "none", file=sys.stderr)
sys.exit(code)
"""


class Memory(threading.Thread):
    """Samples the proportional set size of a process and its descendants: pages that are shared count once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak = psutil.Process(pid), 0

    def run(self) -> None:
        while self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE:
            try:
                family = [self.root, *self.root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.peak = max(self.peak, sum(map(_pss, family)))
            time.sleep(0.5)


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0


def cold(name: str, environment: dict[str, str]) -> dict[str, Any]:
    """One run from an empty store."""
    start = time.monotonic()
    run = subprocess.Popen([sys.executable, "-m", "harness", "run", name], env=environment)
    memory = Memory(run.pid)
    memory.start()
    code = run.wait()
    return {"exit_code": code, "wall_s": time.monotonic() - start, "peak_pss_gib": memory.peak / 2**30}


def finished(name: str, environment: dict[str, str]) -> dict[str, Any]:
    """The same command again: median of three."""
    walls, said = [], ""
    for _ in range(3):
        start = time.monotonic()
        code = FINISHED.format(name=name)
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        walls.append(time.monotonic() - start)
        said = done.stderr.splitlines()[-1]
    return {"wall_s": statistics.median(walls), "heavy": said}


def worker_seconds(home: Path, name: str) -> dict[str, Any]:
    """Sums of the stages' own timers, with their commits; imports are reported apart.

    Opening a model belongs to its engine, and encoding a training's rows to its trainer, as in TRL's own.
    """
    spent: Counter[str] = Counter()
    imported_once = 0.0
    by_action: dict[str, Counter[str]] = {}
    for line in (home / "journal" / f"{name}.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "stage_finished":
            timing = dict(event["timing"])
            imported_once = max(imported_once, timing.pop("preload", 0.0))  # by the server that workers are forks of
            spent.update(timing)
            by_action.setdefault(event["action"], Counter()).update(timing)
    encoded = by_action.get("finetune", Counter())["tokenizer"]
    inside = spent["engine"] + spent["trainer"] + spent["open"] + encoded
    work = spent["wall"] - spent["import"] + spent["commit"]
    return {
        "work_s": work,
        "import_s": spent["import"] + imported_once,
        "inside_s": inside,
        "outside_share": (work - inside) / work,
        "by_action_s": {action: {k: round(v, 2) for k, v in times.items()} for action, times in by_action.items()},
    }


def help_ratio() -> dict[str, float]:
    """`loopbench --help` against importing click, alternated, median of ten."""
    ours: list[float] = []
    click: list[float] = []
    command = Path(sys.executable).with_name("loopbench")
    for _ in range(10):
        for target, sink in (([str(command), "--help"], ours), ([sys.executable, "-c", "import click"], click)):
            start = time.monotonic()
            subprocess.run(target, capture_output=True, check=True)
            sink.append(time.monotonic() - start)
    return {
        "help_s": statistics.median(ours),
        "click_s": statistics.median(click),
        "ratio": statistics.median(ours) / statistics.median(click),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="quickstart")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LOOPBENCH_HOME": folder, "HF_HUB_OFFLINE": "1"}
        name = options.experiment
        result = {
            "experiment": name,
            "machine": machine(),
            "versions": {p: version(p) for p in PACKAGES} | {"python": platform.python_version()},
            "load_before": os.getloadavg()[0],
            "cold": cold(name, environment),
            "workers": worker_seconds(Path(folder), name),
            "finished": finished(name, environment),
            "help": help_ratio(),
        }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
