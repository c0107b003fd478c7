"""The live view of a run: stages done, rows of those in work, time left; plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.loop.stage import Stage

QUIET = 10.0
"""Seconds between two lines where there is no terminal."""


class View:
    """Listens to a run. Use as a context manager; `listen` is the run's listener."""

    def __init__(self, name: str, quiet: bool = False) -> None:
        self.console = Console(stderr=True)
        self.name, self.quiet = name, quiet
        self.live = self.console.is_terminal and not quiet
        self.bars = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.tasks: dict[str, Any] = {}
        self.limits: set[str] = set()
        self.total = self.done = 0
        self.start = self.said = time.monotonic()

    def __enter__(self) -> Self:
        if self.live:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bars.stop()

    def listen(self, event: str, stage: Stage | None, data: Mapping[str, Any]) -> None:
        """Takes one event of `harness.loop.run`."""
        if event == "grid":
            self._grid(data)
        elif event == "note":
            self._say(f"note: {data['text']}")
        elif stage is not None:
            getattr(self, f"_{event}")(stage, data)

    def _grid(self, data: Mapping[str, Any]) -> None:
        self.total = len(data["waiting"])
        if self.live:
            self.tasks["all"] = self.bars.add_task(f"[bold]{self.name}", total=self.total)
        self._say(f"{self.name}: {self.total} stages to run, {len(data['found'])} already done")

    def _started(self, stage: Stage, data: Mapping[str, Any]) -> None:
        if self.live:
            self.tasks[stage.key] = self.bars.add_task(stage.label, total=None)

    def _progress(self, stage: Stage, data: Mapping[str, Any]) -> None:
        if self.live and stage.key in self.tasks:
            self.bars.update(self.tasks[stage.key], completed=data["done"], total=data["total"])

    def _done(self, stage: Stage, data: Mapping[str, Any]) -> None:
        self.done += 1
        for note in data.get("engine_notes") or ():
            self._say(f"{stage.label}: {note}")
        if self.live:
            self._remove(stage)
            self.bars.update(self.tasks["all"], completed=self.done)
        elif time.monotonic() - self.said > QUIET:
            self.said = time.monotonic()
            spent = self.said - self.start
            left = spent / self.done * (self.total - self.done)
            self._say(f"{self.done} of {self.total} stages, {spent:.0f} s, about {left:.0f} s left")

    def _retried(self, stage: Stage, data: Mapping[str, Any]) -> None:
        self._remove(stage)
        self._say(f"{stage.label}: {data['why']}; trying it again")

    def _failed(self, stage: Stage, data: Mapping[str, Any]) -> None:
        self._remove(stage)
        self._say(f"FAILED {stage.label}: {data['why']}")
        if data["family"] == "bug":
            self._say(data["traceback"])

    def _held(self, stage: Stage, data: Mapping[str, Any]) -> None:
        self._remove(stage)
        limit = data["why"].split(" ", 1)[0]
        if limit not in self.limits:
            self._say(data["why"])
        self.limits.add(limit)

    def _remove(self, stage: Stage) -> None:
        if self.live and stage.key in self.tasks:
            self.bars.remove_task(self.tasks.pop(stage.key))

    def _say(self, text: str) -> None:
        if self.quiet:
            return
        if self.live:
            self.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)
