"""The kind of block that trains, what it is given, and what it reports."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from harness.blocks.base import Block, Kind
from harness.engines.base import Capability
from harness.records.example import Example


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training did. Losses are nats per token; `history` is one dict per logged optimizer step (key `step`)."""

    steps: int
    rows: int
    train_tokens: int
    loss_tokens: int
    first_loss: float | None
    last_loss: float | None
    history: tuple[Mapping[str, float], ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows that could not train, by reason."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows that trained and are worth knowing of: `truncated`, `identical pairs`, ..."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What was measured of the training as a whole: `held_out/rewards/accuracies`, `loss/expected`, ..."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What it says in words: `stop` (whether another round pays), ..."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time by part: import, load, encode, setup, train, save."""
    runtime: Mapping[str, str] = field(default_factory=dict)
    """How it ran: device, precision, layout of the batches, attention, step that it resumed from, peaks."""
    speed: Mapping[str, float] = field(default_factory=dict)
    """Of what was trained in this run: `tokens_per_second` (all and `trained_...`), `flops_per_token`, `mfu` (share of
    the device's peak), `peak_memory_gib`."""


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a trainer is given. `start`, `reference`: model folders; `work`: where checkpoints survive a kill."""

    start: Path
    out: Path
    work: Path
    seed: int
    reference: Path | None = None
    device: str = "auto"
    threads: int = 1
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None
    """Called with (step, total steps, metrics) at each logged step."""


class Trainer(Block):
    kind: ClassVar[Kind] = "finetune"
    random: ClassVar[bool] = True

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Every model of a training is one whose weights are here."""
        return {name: frozenset({"weights"}) for name in self.roles()}

    @abstractmethod
    def train(self, rows: Iterable[Example], context: TrainContext) -> TrainReport:
        """Trains `context.start` on the rows and writes the model folder `context.out` (weights, config, tokenizer)."""
