"""Runs a plan: what is done is found, what is left is scheduled, what fails blocks only its descendants.

The coordinator never imports torch. It holds the experiment's lease, writes the journal and the grid file, and hands
ready stages to an executor: first those whose model is already open there, then those with the most work behind them.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness.clock import each, layer, timed
from harness.loop.capable import check_keys
from harness.loop.devices import default_workers
from harness.loop.executor import Executor, Helps, LocalExecutor
from harness.loop.forecast import Line, forecast
from harness.loop.foretold import noted
from harness.loop.grid import grid_document, link_runs
from harness.loop.limits import Guard
from harness.loop.order import children_of, model_of, ranks, together
from harness.loop.outcome import Outcome
from harness.loop.plan import Plan
from harness.loop.profile import Profile
from harness.loop.sharing import Sharing
from harness.loop.signals import Interrupted, signals
from harness.loop.stage import Stage
from harness.loop.survey import CODE_CHANGED, changed_code, survey
from harness.store.artifacts import Store
from harness.store.atomic import write_json
from harness.store.home import Home
from harness.store.journal import Journal
from harness.store.locks import lease

TRIES = 3
"""A stage whose worker died or that met a transient failure is tried this often."""
BACK_OFF = 2.0
"""Seconds of the first wait after a transient failure, doubled each time."""
_TOLD = ("rows", "dropped", "timing", "cost", "opened", "together", "memory", "share")
"""What a `stage_finished` event says of the manifest; `together`: how many stages were one stream; `share`: the part of
the work that its times are of, where the rest was done before or by other workers."""
_REPORTED = ("counts", "figures", "notes")
"""What it says of the manifest's report."""

Listener = Callable[[str, Stage | None, Mapping[str, Any]], None]


def run(
    plan: Plan,
    home: Home | None = None,
    *,
    workers: int | None = None,
    listener: Listener = lambda event, stage, data: None,
    executor: Callable[[Home, int], Executor] = LocalExecutor,
    profile: Profile | None = None,
) -> Outcome:
    """Runs what is not done yet.

    Where `limits:` of the experiment are used up, no further stage is started (see `harness.loop.limits`): those that
    run are finished, the others are `held` in the outcome. With `profile`, all processes write down how they spend
    their time.

    Raises:
        Held: another process runs this experiment.
        Interrupted: SIGINT or SIGTERM arrived; workers are gone, finished work is kept.
    """
    home = (home or Home.find()).prepare()
    name = plan.experiment.name
    if profile is not None and executor is LocalExecutor:
        executor = partial(LocalExecutor, profile=profile.folder)
    with lease(home.locks, f"experiment-{name}".replace("/", "-"), f"experiment {name}"):
        write_grid(plan, home)
        with Journal(home.journal_file(name)) as journal, signals():
            return _Run(plan, home, journal, listener, executor, workers or default_workers()).run()


def write_grid(plan: Plan, home: Home) -> None:
    """Writes the grid file of an experiment, and a copy by plan key: tracking can fill in an older plan later."""
    path = home.grid_file(plan.experiment.name)
    kept = path.parent / "grids" / f"{plan.key}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    document = grid_document(plan)
    write_json(kept, document)
    write_json(path, document)


class _Run:
    def __init__(
        self, plan: Plan, home: Home, journal: Journal, listener: Listener, executor: Any, workers: int
    ) -> None:
        self.plan, self.home, self.journal, self.listener = plan, home, journal, timed("view")(listener)
        self.store = Store(home)
        self.executor_type, self.workers = executor, workers
        self.guard = Guard.of(plan, home)
        self.outcome = Outcome()
        self.state: dict[str, str] = {}
        self.tries: dict[str, int] = {}
        self.not_before: dict[str, float] = {}
        self.said: dict[str, Line] = {}
        self.sharing = Sharing()
        self.children = children_of(plan.stages)
        self.rank = ranks(plan.stages, self.children)

    def run(self) -> Outcome:
        start = time.monotonic()
        self._survey()
        waiting = [key for key, state in self.state.items() if state == "waiting"]
        check_keys(self.plan.stages[key] for key in waiting)
        if waiting:
            said = forecast(self.plan, self.home, self.workers)
            self.said = {line.key: line for line in said.stages if not line.done}
        self.journal.write(
            "grid_started", plan_key=self.plan.key, stages=len(self.state), waiting=len(waiting), pid=os.getpid()
        )
        self.listener("grid", None, {"total": len(self.state), "waiting": waiting, "found": self.outcome.found})
        try:
            if waiting:
                self._execute()
        except Interrupted as stop:
            self.journal.write("grid_interrupted", signal=stop.exit_code - 128)
            raise
        finally:
            link_runs(self.plan, self.store)
        self.outcome.wall = time.monotonic() - start
        self.outcome.blocked = [key for key, state in self.state.items() if state == "blocked"]
        self.journal.write(
            "grid_finished",
            plan_key=self.plan.key,
            wall=self.outcome.wall,
            done=len(self.outcome.done),
            failed=len(self.outcome.failed),
            held=len(self.outcome.held),
        )
        return self.outcome

    def _survey(self) -> None:
        """Decides which stages must run, and says which of the others were made by other code."""
        self.state = survey(self.plan.stages, self.children, self.store)
        self.outcome.found = [key for key, state in self.state.items() if state == "done"]
        found = {key: self.plan.stages[key] for key in self.outcome.found}
        for name, count in changed_code(found, self.store).items():
            self.journal.write("code_changed", block=name, stages=count)
            self.listener("note", None, {"text": CODE_CHANGED.format(count=count, name=repr(name))})

    def _execute(self) -> None:
        with layer("starting workers"):
            waiting = sum(state == "waiting" for state in self.state.values())
            executor = self.executor_type(self.home, min(self.workers, waiting))
        finished = False
        try:
            while any(state in ("waiting", "running") for state in self.state.values()):
                self._submit(executor)
                self._share(executor)
                for message in each("waiting", executor.events(timeout=1.0)):
                    self._handle(message)
            finished = True
        finally:
            executor.close(kill=not finished)

    def _submit(self, executor: Executor) -> None:
        for place in executor.free():
            ready = [key for key, state in self.state.items() if state == "waiting" and self._ready(key)]
            ready = [key for key in ready if not self._stopped(self.plan.stages[key])]
            if not ready:
                return
            open_model = executor.last_model(place)
            best = max(
                ready,
                key=lambda k: (open_model is not None and model_of(self.plan.stages[k]) == open_model, self.rank[k]),
            )
            chosen = [self.plan.stages[key] for key in together(best, ready, self.plan.stages)]
            pid = executor.submit(place, chosen)
            for stage in chosen:
                self._started(stage, pid)

    def _share(self, executor: Executor) -> None:
        """Lets places that have nothing to do help with a long score stage."""
        if not isinstance(executor, Helps):
            return
        for place in executor.free():
            running = (self.plan.stages[key] for key, state in self.state.items() if state == "running")
            stage = self.sharing.next(running)
            if stage is None:
                return
            executor.help(place, stage)
            self.journal.write("stage_shared", key=stage.key, kind=stage.kind, label=stage.label)

    def _started(self, stage: Stage, pid: int) -> None:
        self.state[stage.key] = "running"
        self.tries[stage.key] = self.tries.get(stage.key, 0) + 1
        about = {"key": stage.key, "kind": stage.kind, "label": stage.label, "attempt": self.tries[stage.key]}
        self.journal.write("stage_started", **about, **_about(stage), pid=pid)
        self.listener("started", stage, {})

    def _stopped(self, stage: Stage) -> bool:
        """True where `limits:` do not let a ready stage start; it is held then, and its descendants with it."""
        why = self.guard.refusal(stage)
        if why is not None:
            self._held(stage, why)
        return why is not None

    def _ready(self, key: str) -> bool:
        if self.not_before.get(key, 0.0) > time.monotonic():
            return False
        return all(self.state.get(parent) == "done" for parent in self.plan.stages[key].parents)

    def _handle(self, message: tuple[Any, ...]) -> None:
        event, key, *rest = message
        stage = self.plan.stages[key]
        if event == "helped":
            self.journal.write("stage_helped", key=key, kind=stage.kind, label=stage.label, shards=rest[0], why=rest[1])
            return
        if self.state.get(key) != "running":  # told already: a worker that failed after it was done with some
            return
        if event == "progress":
            self.sharing.progress(stage, rest[0], rest[1])
            self.listener("progress", stage, {"done": rest[0], "total": rest[1]})
        elif event == "done":
            self._done(stage, rest[0])
        elif event == "died":
            self._again(stage, f"its worker process died (exit code {rest[0]})", "")
        elif rest[0] == "transient":
            self._again(stage, rest[1], rest[2])
        elif rest[0] == "limit":
            self._held(stage, rest[1])
        else:
            self._failed(stage, rest[1], rest[0], rest[2])

    def _done(self, stage: Stage, manifest: Mapping[str, Any]) -> None:
        self.state[stage.key] = "done"
        self.outcome.done.append(stage.key)
        data = {name: manifest.get(name) for name in _TOLD}
        report = manifest.get("report") or {}
        data |= {name: report[name] for name in _REPORTED if report.get(name)}
        data |= {name: manifest[name] for name in ("engine_notes",) if manifest.get(name)}
        data |= noted(stage, self.plan.stages, self.said.get(stage.key), manifest)
        self.journal.write("stage_finished", key=stage.key, kind=stage.kind, label=stage.label, **_about(stage), **data)
        self.listener("done", stage, data)

    def _again(self, stage: Stage, why: str, trace: str) -> None:
        if self.tries[stage.key] >= TRIES:
            self._failed(stage, f"{why}, {TRIES} times", "stage", trace)
            return
        self.state[stage.key] = "waiting"
        if trace:  # a transient failure, not a killed worker: full jitter, so that workers do not knock together
            self.not_before[stage.key] = time.monotonic() + random.uniform(0, BACK_OFF * 2 ** self.tries[stage.key])
        self.journal.write("stage_retried", key=stage.key, kind=stage.kind, label=stage.label, why=why)
        self.listener("retried", stage, {"why": why})

    def _failed(self, stage: Stage, why: str, family: str, trace: str) -> None:
        self.state[stage.key] = "failed"
        self.outcome.failed[stage.key] = why
        self.journal.write(
            "stage_failed", key=stage.key, kind=stage.kind, label=stage.label, family=family, why=why, traceback=trace
        )
        self.listener("failed", stage, {"why": why, "family": family, "traceback": trace})
        self._block_below(stage)

    def _held(self, stage: Stage, why: str) -> None:
        self.state[stage.key] = "held"
        self.outcome.held[stage.key] = why
        self.journal.write("stage_held", key=stage.key, kind=stage.kind, label=stage.label, why=why)
        self.listener("held", stage, {"why": why})
        self._block_below(stage)

    def _block_below(self, stage: Stage) -> None:
        below = list(self.children[stage.key])
        while below:
            key = below.pop()
            if self.state.get(key) == "waiting":
                self.state[key] = "blocked"
                below += self.children[key]


def _about(stage: Stage) -> dict[str, Any]:
    return {"action": stage.action, "block": stage.name}
