"""What became of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.errors import EXIT_OK, EXIT_STAGE_FAILED


@dataclass
class Outcome:
    """What became of a run.

    `failed` maps stage keys to messages, `held` those that `limits:` did not let start; `blocked` are the descendants
    of both.
    """

    done: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)
    wall: float = 0.0

    @property
    def exit_code(self) -> int:
        return EXIT_STAGE_FAILED if self.failed or self.held else EXIT_OK

    @property
    def waiting_for_limits(self) -> str | None:
        """Why stages were held, how many wait for it, and what to do; None where no limit was met."""
        if not self.held:
            return None
        latest = {why.split(" ", 1)[0]: why for why in self.held.values()}  # sums grow: one sentence per limit
        return f"{len(self.held) + len(self.blocked)} stages wait: " + " ".join(latest.values())
