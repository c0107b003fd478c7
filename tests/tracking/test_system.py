"""MLflow's system metrics: on while a run is followed, a record of the machine that no replay repeats."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from harness.tracking import drain, start
from harness.tracking.sink import replay
from harness.tracking.system import Meter

OFTEN = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2"
}
NAME = "system/cpu_utilization_percentage"
WAIT = 120.0
Look = Callable[..., Any]


def parent(seen: Any) -> Any:
    return next(run for name, run in seen.runs.items() if name.startswith("grid-"))


def samples(seen: Any) -> list[Any]:
    found: list[Any] = seen.client.get_metric_history(parent(seen).info.run_id, NAME)
    return found


def test_the_parent_run_shows_the_machine_while_the_run_goes_on_and_a_replay_adds_nothing(
    world: Any, look: Look
) -> None:
    sink = start(world.home, "trial", world.plan_key, OFTEN)
    world.begin().finish(*(key for key in world.stages if "untuned" in key))
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        time.sleep(0.5)
        if (world.home.path / "mlflow.db").exists() and _begun(world, look) and samples(look(world)):
            break
    world.finish()
    assert drain(sink, WAIT).ok
    seen = look(world)
    steps = [point.step for point in samples(seen)]
    assert steps
    assert steps == sorted(set(steps))
    assert all(0 <= point.value <= 100 for point in samples(seen))
    assert {"system/system_memory_usage_megabytes", NAME} <= parent(seen).data.metrics.keys()
    assert {run.info.status for run in seen.runs.values()} == {"FINISHED"}
    assert not any(key.startswith("system/") for n, r in seen.runs.items() if "/" in n for key in r.data.metrics)
    replay(world.home, "trial", OFTEN)
    assert [point.step for point in samples(look(world))] == steps


def test_mlflows_own_variable_turns_them_off(monkeypatch: Any) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    meter = Meter("sqlite:///nowhere.db")
    meter.on("a run")
    meter.off()
    assert meter.monitor is None


def _begun(world: Any, look: Look) -> bool:
    try:
        return bool(look(world).runs)
    except AttributeError:  # the experiment is not there yet
        return False
