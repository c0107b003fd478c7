"""The training loss of the pocket models: labels, and whole distributions where a user turn is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.pocket.batches import IGNORED, Batch

if TYPE_CHECKING:
    import torch

STRAY_WEIGHT = 3.0
"""How much the probability of words that cannot stand at an open place counts beside the cross-entropy."""


def training_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean loss per trained token.

    A label costs its negative log-likelihood, times its weight. An open place costs the cross-entropy with the
    distribution that its word was drawn from and, where nothing else can stand, `STRAY_WEIGHT` times the negative log
    of all the probability that the model puts on what can.

    Args:
        logits: (rows, longest row, vocabulary) of the model that read `batch.ids`.
        batch: What to learn.
    """
    import torch

    # The logits before a token predict it; those after the last token of a row meet an ignored label.
    shifted = torch.nn.functional.pad(logits[:, :-1], (0, 0, 1, 0)).flatten(0, 1)
    predicted = torch.log_softmax(shifted, dim=-1)
    labels, weights = batch.labels.flatten(), batch.weights.flatten()
    labels = labels.where(torch.arange(len(labels)) % logits.shape[1] != 0, IGNORED)
    kept = (labels != IGNORED).nonzero().squeeze(1)
    hard = -(predicted[kept, labels[kept]] * weights[kept]).sum()
    places, tokens, shares = batch.spread
    if not len(places):
        return hard / len(kept)
    chances = predicted[places, tokens]
    open_places, index = places.unique(return_inverse=True)
    held = torch.zeros(len(open_places)).index_add(0, index, chances.exp())
    stray = -(held.clamp(min=1e-9).log() * batch.closed.flatten()[open_places]).sum()
    return (hard - (shares * chances).sum() + STRAY_WEIGHT * stray) / (len(kept) + len(open_places))
