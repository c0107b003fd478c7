"""Batches of preference pairs, and the reference model's log-probabilities of them, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.finetune._data import Pair

Item = dict[str, Any]


def pair_items(pairs: Sequence[Pair]) -> list[Item]:
    """Pairs as TRL's collator wants them: lists of ids, and the index of the row."""
    return [
        {
            "prompt_ids": pair.prompt.tolist(),
            "chosen_ids": pair.chosen.tolist(),
            "rejected_ids": pair.rejected.tolist(),
            "row": row,
        }
        for row, pair in enumerate(pairs)
    ]


def pair_length(pair: Pair) -> int:
    """Tokens of the longer side."""
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _length(item: Item) -> int:
    return len(item["prompt_ids"]) + max(len(item["chosen_ids"]), len(item["rejected_ids"]))


@dataclass(frozen=True)
class PairCollator:
    """TRL's collator, with the indices of the rows."""

    inner: Any

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        batch: dict[str, Any] = self.inner(list(items))
        batch["rows"] = [item["row"] for item in items]
        return batch


def on_device(trainer: Any, items: Sequence[Item]) -> dict[str, Any]:
    """One batch of items as the trainer's model takes it."""
    inputs = trainer.data_collator(items)
    inputs.pop("rows")
    return {name: value.to(trainer.args.device) for name, value in inputs.items()}


def add_reference(trainer: Any, items: Sequence[Item], batch_size: int) -> None:
    """Puts the reference's summed log-probabilities into the items, and lets go of a reference model.

    They do not change while the policy trains, so computing them once saves a forward pass per step and epoch, and a
    second model in memory. With no reference model the policy is its own reference: call this before training.
    """
    import torch

    model = trainer.ref_model or trainer.model
    model.eval()
    home = next(model.parameters()).device  # a model that will be sharded is not on the device yet
    model.to(trainer.args.device)
    order = sorted(items, key=_length, reverse=True)
    for at in range(0, len(order), batch_size):
        part = order[at : at + batch_size]
        inputs = on_device(trainer, part)
        with torch.no_grad():
            chosen, rejected = trainer.compute_ref_log_probs(model, inputs)
        for item, better, worse in zip(part, chosen.tolist(), rejected.tolist(), strict=True):
            item["ref_chosen_logps"], item["ref_rejected_logps"] = better, worse
    model.to(home)
    trainer.ref_model = None
