"""`limits:` of an experiment: nothing further is started once its money or its time is used up.

Money is all that the experiment ever spent in this home (`harness.store.spent`); only stages that ask a served model
wait for it, and within a stage the engine checks before each call. Time is what all runs of this very plan took, as
the journal has it, a killed run up to its last event; every stage waits for it. A stage that runs is not cut off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.loop.plan import Plan
from harness.loop.stage import Stage
from harness.store import journal
from harness.store.home import Home
from harness.store.spent import Ledger, used_up

HOUR = 3600.0


@dataclass
class Guard:
    """What is left of the limits. `before` are the seconds that earlier runs of the plan took."""

    hours: float | None = None
    ledger: Ledger | None = None
    before: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.clock()

    @classmethod
    def of(cls, plan: Plan, home: Home) -> Guard:
        """The guard of a plan that is about to run."""
        name, limits = plan.experiment.name, plan.experiment.limits
        if limits is None:
            return cls()
        events = journal.read(home.journal_file(name)) if limits.hours is not None else ()
        ledger = Ledger(home.spent_file(name), limits.usd) if limits.usd is not None else None
        return cls(hours=limits.hours, ledger=ledger, before=seconds_of(events, plan.key))

    def refusal(self, stage: Stage) -> str | None:
        """Why a stage may not start; None where it may."""
        taken = self.before + self.clock() - self._start
        if self.hours is not None and taken >= self.hours * HOUR:
            return (
                f"limits.hours is {self.hours:g} and the runs of this plan took {taken / HOUR:.2f} h: nothing further "
                f"is started. Finished work is kept; to go on, raise limits.hours (`--set limits.hours=...`) and run "
                f"the same command again"
            )
        if self.ledger is None or self.ledger.limit is None or not _pays(stage):
            return None
        total = self.ledger.total()
        return used_up(total, self.ledger.limit) if total >= self.ledger.limit else None


def _pays(stage: Stage) -> bool:
    return any(binding.spec.remote for binding in stage.models.values())


def seconds_of(events: Iterable[Mapping[str, Any]], plan_key: str) -> float:
    """How long the runs of a plan took together, by its experiment's journal."""
    total, begun, last = 0.0, None, 0.0
    for event in events:
        if event["event"] == "grid_started":
            total += 0.0 if begun is None else last - begun
            begun = event["time"] if event["plan_key"] == plan_key else None
        last = event["time"]
        if event["event"] in ("grid_finished", "grid_interrupted") and begun is not None:
            total, begun = total + last - begun, None
    return total + (0.0 if begun is None else last - begun)
