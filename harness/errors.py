"""The errors of loopbench and the exit code that each one carries.

    LoopbenchError              70  a bug of ours: shown with a traceback
    ├── UserError                2  a mistake in a command, a file or the surroundings: one paragraph, no traceback
    │   └── ConfigError          2  all mistakes of a configuration at once, each with file and line
    ├── CannotTell               3  nothing was measured, or not enough to decide; never a pass
    ├── StageFailed              4  a stage failed; finished work was kept
    ├── LimitReached             4  `limits:` is used up: nothing more is spent, finished work was kept
    └── Transient                4  network, rate limit, out of memory: worth another try before the stage fails

A border (stage, row, command) decides what a failure means; code below the border just raises. Blocks written by
others may raise anything: the stage border labels it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_TELL = 3
EXIT_STAGE_FAILED = 4
EXIT_INTERNAL = 70


class LoopbenchError(Exception):
    """Base of every error that loopbench raises on purpose."""

    exit_code = EXIT_INTERNAL


class UserError(LoopbenchError):
    """A mistake that the user can mend. The message says what, where, and what to do, in one paragraph."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True)
class Problem:
    """One mistake in a file. `line` is 1-based; None where the mistake has no line (a flag, a missing file)."""

    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = "" if self.file is None else self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}" if where else self.message


class ConfigError(UserError):
    """Every mistake of a configuration, found before anything was spent."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} mistakes" if len(self.problems) != 1 else "1 mistake"
        super().__init__(f"{count} in the configuration; nothing was run.\n" + "\n".join(f"  {p}" for p in problems))


class CannotTell(LoopbenchError):
    """A question that the available measurements do not answer."""

    exit_code = EXIT_CANNOT_TELL


class StageFailed(LoopbenchError):
    """A stage could not be finished. Rows and stages that were finished are kept; the same command retries."""

    exit_code = EXIT_STAGE_FAILED


class LimitReached(LoopbenchError):
    """Going on would spend more than the experiment's `limits:` allow. Nothing was spent for what this stopped."""

    exit_code = EXIT_STAGE_FAILED


class Transient(LoopbenchError):
    """A failure that may go away by itself: the stage retries it before it counts as failed."""

    exit_code = EXIT_STAGE_FAILED
