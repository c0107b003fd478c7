"""MLflow's system metrics (processor, memory, disk, network, GPU) of a run, on its parent run while it goes on.

MLflow's own monitor, in the process that writes MLflow and so beside the run: a thread that samples the machine every
ten seconds and stops by itself where MLflow does not answer. They are a record of the machine, not of the experiment:
nothing replays them, and a run that goes on later counts on from the last sample.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.tracking.tracker import reached

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
"""MLflow's own variable; here they are on unless it says false."""


@dataclass
class Meter:
    """The monitor of one run, started once its run is there."""

    uri: str
    monitor: Any = None

    def on(self, run: str | None) -> None:
        """Starts sampling for a run, once.

        Raises:
            Unreachable: MLflow did not answer.
        """
        if run is None or self.monitor is not None or os.environ.get(SWITCH, "true").lower() in ("false", "0"):
            return
        with reached(self.uri):
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self.monitor = SystemMetricsMonitor(run, resume_logging=True, tracking_uri=self.uri)
        self.monitor.start()

    def off(self) -> None:
        """Stops sampling and writes what was sampled; an outage costs these samples only."""
        if self.monitor is not None:
            self.monitor.finish()


@contextmanager
def metered(uri: str) -> Iterator[Meter]:
    """A meter that is off at the end, whatever happens."""
    meter = Meter(uri)
    try:
        yield meter
    finally:
        meter.off()
