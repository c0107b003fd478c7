"""One training over several processes: who this process is, and which rows of a batch are its own.

An optimizer step sees the same rows however many devices there are: each batch of the one order is shared out, so that
`devices` changes how a model is trained, not what on. What remains of an epoch may leave a process without a row: it
goes through a row without a loss, since all must take part in every step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.finetune._batches import IGNORED, Order

RANKS = "LOOPBENCH_RANKS"
"""Set to 1 for the processes of one training, so that the variables of another launcher are not taken for ours."""


@dataclass(frozen=True)
class World:
    """Which of `size` processes this is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True for the process that writes and reports."""
        return self.rank == 0


ALONE = World()


def world() -> World:
    """The processes of this training; one where none were launched."""
    if os.environ.get(RANKS) != "1":
        return ALONE
    return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


class Shares:
    """A batch sampler: of each batch of the order, every `size`-th item from `rank` on, marked as this process's own.

    A batch without an item for this process gives its first one, not marked.
    """

    def __init__(self, order: Order, batch: int, here: World) -> None:
        self.batch_sampler, self.batch, self.here = order, batch, here

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.batch_sampler) / self.batch)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        rows = list(self.batch_sampler)
        for at in range(0, len(rows), self.batch):
            batch = rows[at : at + self.batch]
            own = batch[self.here.rank :: self.here.size]
            yield [(row, len(own), len(batch)) for row in own or batch[:1]]


@dataclass(frozen=True)
class Shared:
    """The items as the data loader asks `Shares` for them."""

    items: Sequence[Any]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, asked: tuple[int, int, int]) -> tuple[Any, int, int]:
        row, own, whole = asked
        return self.items[row], own, whole


@dataclass(frozen=True)
class ShareCollator:
    """A process's part of a batch. `share`: what its mean loss counts for in the mean over the processes."""

    inner: Callable[[list[Any]], dict[str, Any]]
    size: int

    def __call__(self, asked: Sequence[tuple[Any, int, int]]) -> dict[str, Any]:
        batch = self.inner([item for item, _, _ in asked])
        _, own, whole = asked[0]
        if not own:
            batch["rows"] = []
            if "labels" in batch:
                batch["labels"].fill_(IGNORED)
                batch["trained"] = 0
        return batch | {"share": own * self.size / whole}


def loader(trainer: Any, here: World, batch: int) -> Any:
    """The data loader of this process, for batches of `batch` items over all processes."""
    from torch.utils.data import DataLoader

    return DataLoader(
        Shared(trainer.train_dataset),
        batch_sampler=Shares(trainer.watch.order, batch, here),
        collate_fn=ShareCollator(trainer.data_collator, here.size),
        pin_memory=trainer.args.dataloader_pin_memory,
    )


def total(here: World, *counts: int) -> list[int]:
    """Sums over all processes; every one of them has to ask."""
    return [sum(column) for column in zip(*gathered(here, list(counts)), strict=True)]


def gathered(here: World, value: Any) -> list[Any]:
    """What each process gives, by rank; every one of them has to ask."""
    if here.size == 1:
        return [value]
    from accelerate.utils import gather_object

    found: list[Any] = gather_object([value])
    return found


def agreed(here: World, wish: bool) -> bool:
    """What the first process wishes: clocks differ, and all must write a checkpoint at the same step."""
    return bool(gathered(here, wish)[0])
