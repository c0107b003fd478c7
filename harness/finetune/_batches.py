"""The order of rows, and batches without waste.

On a CPU a training step costs what its tokens cost, padding included. So the rows of a batch are laid side by side
into fewer, longer sequences, with positions that begin anew at each row: the same rows, the same loss, a third fewer
tokens. What keeps rows apart is the block-diagonal attention mask that
transformers derives from the positions; `harness.finetune._isolation` proves it for each model before it is used.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.records.hashing import seed_of

if TYPE_CHECKING:
    from harness.finetune._data import Row

Layout = Literal["packed", "flat", "padded", "masked"]
"""packed: several rows per sequence. flat: all rows of a batch in one sequence, which is how flash attention's kernels
tell rows apart; nothing is padding. padded: one row per sequence; padding follows the row, where a causal model cannot
see it, so no attention mask is needed. masked: as padded, with an attention mask (mixtures of experts count tokens by
it; some models take no positions)."""
IGNORED = -100


class Order:
    """Row order of each epoch, from (seed, epoch) alone: a resumed epoch has the order of the interrupted one."""

    def __init__(self, lengths: Sequence[int], seed: int, batch: int, by_length: bool) -> None:
        self.lengths, self.seed, self.batch, self.by_length = list(lengths), seed, batch, by_length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        import torch

        generator = torch.Generator().manual_seed(seed_of("row order", self.seed, self.epoch))
        if not self.by_length:
            return iter(torch.randperm(len(self), generator=generator).tolist())
        from transformers.trainer_pt_utils import get_length_grouped_indices

        ordered = get_length_grouped_indices(self.lengths, self.batch, generator=generator)
        batches = [ordered[at : at + self.batch] for at in range(0, len(ordered), self.batch)]
        whole = len(ordered) // self.batch
        shuffled = [batches[at] for at in torch.randperm(whole, generator=generator).tolist()]
        return iter([row for batch in shuffled + batches[whole:] for row in batch])


def pack_all(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Rows (by index) into sequences of at most `max_length` tokens, by TRL's best-fit decreasing."""
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    rows = Dataset.from_dict({"row": [[row] * length for row, length in enumerate(lengths)]})
    packed = pack_dataset(rows, max_length, "bfd")
    return [list(dict.fromkeys(sequence)) for sequence in packed["row"]]


def side_by_side(lengths: Sequence[int], hidden: int) -> list[list[int]]:
    """Positions in `lengths` into sequences that make the batch cheapest.

    Few long sequences waste little padding and pay for it in attention, whose share of a layer's work is about
    width / (6 hidden). So several numbers of sequences are tried, from a quarter of what the longest row asks for to
    one per row, or a little more than the longest row asks for where there are many rows.
    """
    most = -(-sum(lengths) // max(lengths))
    tried = [_balanced(lengths, count) for count in range(max(1, most // 4), min(len(lengths), most + 2) + 1)]

    def price(sequences: list[list[int]]) -> float:
        width = max(sum(lengths[at] for at in sequence) for sequence in sequences)
        return len(sequences) * width * (1 + width / (6 * hidden))

    return min(tried, key=price)


def _balanced(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Into `count` sequences of about equal length: the longest first, each to the shortest sequence so far."""
    sequences: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, number) for number in range(count)]
    for at in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        length, number = filled[0]
        sequences[number].append(at)
        heapq.heapreplace(filled, (length + lengths[at], number))
    return [sequence for sequence in sequences if sequence]


@dataclass(frozen=True)
class RowCollator:
    """Sequences of rows to the tensors of one batch.

    An item is a group of row indices: one row, or, after `pack_all`, the rows of one sequence. Gives `input_ids` and
    `labels` (int64, shape (sequences, length), -100 where no loss counts), `position_ids` or `attention_mask` by
    layout, `weights` (float32, per token) where a row's weight is not 1, and `rows`, the indices of the rows.

    With `shifted`, each place holds the token that it has to predict (`shift_labels`, equal to `labels`), so that a
    row's last token, which predicts nothing, is not computed. Otherwise each place holds its own token.
    """

    rows: Sequence[Row]
    pad: int
    layout: Layout
    hidden: int = 128
    """Width of the model; decides how long sequences may get."""
    shifted: bool = True
    multiple: int = 1
    """Widths are filled up to a multiple of this."""

    def __call__(self, items: Sequence[Sequence[int]]) -> dict[str, Any]:
        import numpy as np
        import torch

        cut = int(self.shifted)
        sequences = self._sequences(items)
        width = max(sum(self._length(r) for r in sequence) for sequence in sequences)
        width = -(-width // self.multiple) * self.multiple
        shape = (len(sequences), width)
        ids, labels = np.full(shape, self.pad, np.int64), np.full(shape, IGNORED, np.int64)
        positions, weights = np.tile(np.arange(width), (len(sequences), 1)), np.ones(shape, np.float32)
        seen = np.zeros(shape, np.int64)
        for line, sequence in enumerate(sequences):
            at = 0
            for row in (self.rows[r] for r in sequence):
                part = slice(at, at + len(row.ids) - cut)
                ids[line, part] = row.ids[: len(row.ids) - cut]
                labels[line, part] = np.where(row.train[cut:], row.ids[cut:], IGNORED)
                positions[line, at:] = np.arange(width - at)
                weights[line, part] = row.weight
                seen[line, part] = 1
                at = part.stop
            if at < width and self.layout in ("packed", "flat"):
                positions[line, at:] = np.arange(width - at)
        batch = {
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
            "rows": [row for item in items for row in item],
            "trained": int((labels != IGNORED).sum()),
        }
        if self.shifted:
            batch["shift_labels"] = batch["labels"]
        name, value = ("attention_mask", seen) if self.layout == "masked" else ("position_ids", positions)
        batch[name] = torch.from_numpy(value)
        if (weights != 1).any():
            batch["weights"] = torch.from_numpy(weights)
        return batch

    def _length(self, row: int) -> int:
        return len(self.rows[row].ids) - self.shifted

    def _sequences(self, items: Sequence[Sequence[int]]) -> list[list[int]]:
        if self.layout == "flat":
            return [[row for item in items for row in item]]
        if self.layout != "packed" or any(len(item) > 1 for item in items):
            return [list(item) for item in items]
        rows = [item[0] for item in items]
        return [[rows[at] for at in sequence] for sequence in side_by_side(list(map(self._length, rows)), self.hidden)]


def items_of(rows: Sequence[Row], packing: int | None) -> list[list[int]]:
    """What the sampler draws from: single rows, or sequences of up to `packing` tokens."""
    return pack_all([len(row.ids) for row in rows], packing) if packing else [[row] for row in range(len(rows))]
