"""One stage being worked on, and what the work of all kinds of stage shares."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.blocks.kinds import Context
from harness.blocks.prompts import load_pack
from harness.errors import StageFailed
from harness.loop import inputs
from harness.loop.clock import Timer
from harness.loop.desk import Chats, Engines
from harness.loop.drive import Desk, Failed
from harness.loop.feedback import from_grades
from harness.loop.stage import Stage
from harness.records.example import Example
from harness.store.artifacts import Store

SHARD = int(os.environ.get("LOOPBENCH_SHARD", "512"))
"""Items per shard: large enough for full batches, small enough that a kill costs little."""
FAILED_SHARE = 0.05
"""A stage whose rows fail more often than this is a failed stage; its finished shards are kept."""

Result = dict[str, Any]
"""The manifest's part of a stage's report; `keep` names the files to keep."""


@dataclass
class Job:
    """One stage being worked on."""

    stage: Stage
    store: Store
    engines: Engines
    timer: Timer
    progress: Callable[[int, int], None]
    threads: int = 1
    run: str | None = None
    """Names the run of the experiment; None outside one."""
    cost: Counter[str] = field(default_factory=Counter)
    share: float = 1.0
    """Of what `cost` counts, the part that was done here and now; the rest was done before, or by other workers."""
    still: Callable[[], None] = lambda: None
    """Called while a model works; it raises where the work is needed no more."""

    @property
    def folder(self) -> Path:
        return self.store.work(self.stage.kind, self.stage.key)

    @property
    def shards(self) -> Path:
        """Where finished shards lie until the stage is done; made with the first of them."""
        return self.store.home.store / self.stage.kind / f"{self.stage.key}.work" / "shards"

    def context(self) -> Context:
        stage = self.stage
        feedback = from_grades([self.store.open("grades", key) for key in stage.feedback]) if stage.feedback else None
        reads = stage.action == "grade" or (stage.block is not None and stage.block.reads_prompts)
        pack = next((b.spec.prompt_pack for b in stage.models.values()), None) if reads else None
        return Context(
            iteration=stage.iteration or 1,
            seed=stage.seed or 0,
            block=stage.scope,
            feedback=feedback,
            sources={role: inputs.Rows(self.store, rows) for role, rows in stage.sources.items()},
            chats=Chats(stage, self.engines, self.timer),
            prompts=load_pack(pack).entries if pack else {},
        )

    def desk(self, context: Context) -> Desk:
        models = self.stage.models
        self.engines.need = len({binding.stage or binding.spec.revision for binding in models.values()})
        return Desk(lambda role: self.engines.get(models[role], self.timer), context, self.timer, self.cost, self.still)

    def settle(self, cost: Mapping[str, int]) -> None:
        """Takes the cost of the whole stage in place of what was spent here."""
        whole = sum(cost.values())
        self.share = self.cost.total() / whole if whole else 1.0
        self.cost.clear()
        self.cost.update(cost)

    def rows(self) -> Iterator[Example]:
        return inputs.load(self.store, self.stage.inputs)


def reported(told: Iterable[Mapping[str, Mapping[str, float]]]) -> Result:
    """The report of a stage from what its block told in each part: counts added up, figures as last set."""
    counts: Counter[str] = Counter()
    figures: dict[str, float] = {}
    for part in told:
        counts.update(part.get("counts", {}))
        figures.update(part.get("figures", {}))
    report = {"counts": dict(counts), "figures": figures}
    return {"report": {kind: values for kind, values in report.items() if values}} if counts or figures else {}


def check_failures(results: Sequence[Any]) -> None:
    """Stops a shard with too many failed rows before it is saved: a failure is never read back as a result.

    A row that cannot be done whatever is tried (its prompt exceeds the context) is no failure of the stage.
    """
    failed = [r.reason for r in results if isinstance(r, Failed) and not r.expected]
    if len(failed) > FAILED_SHARE * len(results):
        raise StageFailed(
            f"{len(failed)} of {len(results)} rows failed, more than {FAILED_SHARE:.0%}; the first: {failed[0]}"
        )
