"""Rows of one score stage over several workers: places with nothing else to do take shards of it.

A stage belongs to the worker that it was given to, which writes the table and commits it. Others may do shards of it
(`harness.loop.shards`): each has its own device, and a shard's file has the same bytes whoever made it. A helper that
fails or dies costs nothing but its shard, which the stage's own worker does then; where that one fails or dies, its
helpers stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.blocks import kinds
from harness.loop.job import SHARD
from harness.loop.stage import Stage

WORTH = 2
"""Shards for each of those who are at it, from which one more helper is worth opening the model for."""


@dataclass(frozen=True)
class Help:
    """What a worker is sent that is to do shards of another's stage."""

    stage: Stage


def shareable(stage: Stage) -> bool:
    """Whether the shards of a stage are worth sharing: a model of this machine scores rows one by one."""
    if stage.action != "score" or isinstance(stage.block, kinds.TableScorer):
        return False
    return bool(stage.models) and all(binding.spec.holds for binding in stage.models.values())


@dataclass
class Sharing:
    """Decides which running stage an idle place helps with."""

    left: dict[str, int] = field(default_factory=dict)
    """Rows that a stage has still to do, as it told last."""
    helpers: Counter[str] = field(default_factory=Counter)
    """How many places were sent to help a stage, in all."""

    def progress(self, stage: Stage, done: int, total: int) -> None:
        """Notes how far a stage is."""
        if shareable(stage):
            self.left[stage.key] = total - done

    def next(self, running: Iterable[Stage]) -> Stage | None:
        """The stage to help: the one with the most rows for each of those who are at it, if that is worth while."""
        known = [stage for stage in running if stage.key in self.left]
        best = max(known, key=self._each, default=None)
        if best is None or self._each(best) < WORTH * SHARD:
            return None
        self.helpers[best.key] += 1
        return best

    def _each(self, stage: Stage) -> float:
        return self.left[stage.key] / (2 + self.helpers[stage.key])
