"""The folder in which everything lives: artifacts, journal, links, the MLflow database."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError


@dataclass(frozen=True)
class Home:
    """`LOOPBENCH_HOME`, or `.loopbench` in the working folder."""

    path: Path

    @classmethod
    def find(cls) -> Home:
        return cls(Path(os.environ.get("LOOPBENCH_HOME") or ".loopbench").absolute())

    def prepare(self) -> Home:
        """Creates the folders.

        Raises:
            UserError: the folder cannot be written; says which and how to choose another.
        """
        try:
            for folder in (self.store, self.journal, self.runs, self.locks):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"{self.path}: this folder cannot be written ({error.strerror}). loopbench keeps its results there: "
                "make it writable, or set LOOPBENCH_HOME to a folder that is"
            ) from error
        return self

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def replies(self) -> Path:
        """What served models answered, by the hash of the call."""
        return self.path / "replies"

    def grid_file(self, experiment: str) -> Path:
        """What the last run of an experiment planned: cells, stages, suites."""
        return self.runs / experiment / "grid.json"

    def journal_file(self, experiment: str) -> Path:
        return self.journal / f"{experiment}.jsonl"

    def spent_file(self, experiment: str) -> Path:
        """What served models cost an experiment (see `harness.store.spent`)."""
        return self.path / "spent" / f"{experiment}.jsonl"
