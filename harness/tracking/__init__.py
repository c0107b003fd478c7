"""MLflow as a view of the journal and the store, written by a process of its own.

A run starts it with `start` and ends it with `drain`; neither imports MLflow, and no outage reaches the run. What an
outage left out is filled in by the next run of the same experiment.
"""

from harness.tracking.launch import Outcome, Sink, drain, release, start
from harness.tracking.ui import Ui, ui

__all__ = ["Outcome", "Sink", "Ui", "drain", "release", "start", "ui"]
