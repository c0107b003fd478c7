"""What a block is given besides its rows: the loop's context, feedback, and single items of work."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.example import Dropped, Example
from harness.records.hashing import seed_of

if TYPE_CHECKING:
    import numpy as np

    from harness.records.chat import ChatFormat


@dataclass(frozen=True, kw_only=True)
class Weakness:
    """One category of the last dev evaluation: its mean score, as a share of its suite's best value, over n items."""

    category: str
    score: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What the dev split told: categories from weakest to strongest, and the ids of failed items."""

    categories: tuple[Weakness, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass
class Tally:
    """What a block tells of its work beside its rows."""

    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)

    def take(self) -> dict[str, dict[str, float]]:
        """What was told since the last time, as JSON; empty where nothing was."""
        told: dict[str, dict[str, float]] = {"counts": dict(self.counts), "figures": dict(self.figures)}
        self.counts.clear()
        self.figures.clear()
        return {kind: values for kind, values in told.items() if values}


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that a block may know beyond its rows."""

    iteration: int = 1
    seed: int = 0
    """The data seed; for a finetune, the training seed."""
    block: str = ""
    feedback: Feedback | None = None
    chats: Mapping[str, ChatFormat] = field(default_factory=dict)
    """Role to the chat format (tokenizer) of the model bound to it."""
    sources: Mapping[str, Iterable[Any]] = field(default_factory=dict)
    """Source role to its rows, read anew at each pass: examples, or mappings for data of `format: rows`."""
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name to the vectors of all rows, where `needs()` names `vector:<name>`: float32, (rows, width), NaN: missing."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """The prompt pack of the block's model: entry name to template with {placeholders}."""

    earlier: list[Example | Dropped] = field(default_factory=list)
    """What the items before this one became, in order, where the block is worked on `in_turn`; empty for others."""
    scratch: Path | None = None
    """A folder for what a selector does not hold in memory; what is in it goes with the stage. None: the system's."""

    tally: Tally = field(default_factory=Tally)

    def count(self, name: str, n: float = 1) -> None:
        """Adds to a count of the stage's report: parse failures, rows per task, what each filter left, ...

        Counts end in the manifest, the journal and MLflow (`data/<step>/count:<name>`). They are added up over rows and
        kept per shard, so a resumed stage counts everything once.
        """
        self.tally.counts[name] += n  # type: ignore[assignment]

    def figure(self, name: str, value: float) -> None:
        """Sets a figure of the stage's report that is no sum (MLflow: `data/<step>/<name>`).

        For blocks that see all rows at once: selectors, pair builders, table scorers. What works row by row counts a
        numerator and a denominator instead.
        """
        self.tally.figures[name] = float(value)

    def rng(self, *parts: Any) -> random.Random:
        """A generator of its own for (data seed, block, iteration, parts)."""
        return random.Random(seed_of(self.seed, self.block, self.iteration, *parts))


@dataclass(frozen=True, kw_only=True)
class Item:
    """One unit of a synthesizer's work. `id` is unique in the stage; `row` the example that it starts from, if any."""

    id: str
    row: Example | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
