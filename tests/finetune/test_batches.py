from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.finetune._batches import Order, RowCollator, pack_all, side_by_side
from harness.finetune._data import Row

LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=40)


@given(LENGTHS, st.sampled_from([16, 128, 4096]))
def test_each_row_lies_in_one_sequence_and_padding_shrinks(lengths: list[int], hidden: int) -> None:
    sequences = side_by_side(lengths, hidden)
    assert sorted(at for sequence in sequences for at in sequence) == list(range(len(lengths)))
    assert all(sequences)
    width = max(sum(lengths[at] for at in sequence) for sequence in sequences)
    assert len(sequences) * width <= 1.5 * len(lengths) * max(lengths)


def test_narrow_models_get_narrow_batches() -> None:
    lengths = [20 + k * 7 % 41 for k in range(32)]

    def shape(hidden: int) -> tuple[int, int]:
        sequences = side_by_side(lengths, hidden)
        return len(sequences), max(sum(lengths[at] for at in sequence) for sequence in sequences)

    (many, narrow), (few, wide) = shape(8), shape(4096)
    assert narrow < wide
    assert few < many
    assert few * wide < 1.1 * sum(lengths)


def test_packing_a_whole_set_loses_nothing() -> None:
    lengths = [5, 30, 12, 7, 31, 3, 3, 19]
    packed = pack_all(lengths, 32)
    assert sorted(row for sequence in packed for row in sequence) == list(range(8))
    assert all(sum(lengths[row] for row in sequence) <= 32 for sequence in packed)
    assert len(packed) == 4


@pytest.mark.parametrize("by_length", [False, True])
def test_an_epochs_order_depends_on_seed_and_epoch_alone(by_length: bool) -> None:
    lengths = [3 + k * 7 % 50 for k in range(103)]
    order, again = Order(lengths, 0, 8, by_length), Order(lengths, 0, 8, by_length)
    first = list(order)
    assert sorted(first) == list(range(103))
    order.set_epoch(1)
    again.set_epoch(1)
    assert list(order) == list(again) != first
    assert list(Order(lengths, 1, 8, by_length)) != first


def test_grouping_by_length_saves_padding_and_keeps_the_short_batch_last() -> None:
    lengths = [3 + k * 7 % 50 for k in range(103)]

    def padding(rows: list[int]) -> int:
        batches = [[lengths[r] for r in rows[at : at + 8]] for at in range(0, 103, 8)]
        return sum(len(batch) * max(batch) - sum(batch) for batch in batches)

    grouped = list(Order(lengths, 0, 8, True))
    assert padding(grouped) < padding(list(Order(lengths, 0, 8, False))) / 2


def row(start: int, length: int, weight: float = 1.0) -> Row:
    train = np.arange(length) >= length // 2
    return Row(str(start), np.arange(start, start + length, dtype=np.int32), train, weight)


def test_positions_begin_anew_and_no_row_predicts_the_next() -> None:
    rows = [row(100, 7), row(200, 3), row(300, 4)]
    batch = RowCollator(rows, 0, "packed", hidden=1)([[0], [1], [2]])
    assert batch["input_ids"].tolist() == [[100, 101, 102, 103, 104, 105], [300, 301, 302, 200, 201, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 103, 104, 105, 106], [-100, 302, 303, 201, 202, -100]]
    assert batch["shift_labels"] is batch["labels"]
    assert batch["rows"] == [0, 1, 2]
    assert batch["trained"] == 8
    assert "attention_mask" not in batch
    assert "weights" not in batch


def test_without_the_shift_each_place_holds_its_own_token() -> None:
    rows = [row(100, 6), row(200, 2), row(300, 3)]
    batch = RowCollator(rows, 0, "packed", hidden=1, shifted=False)([[0], [1], [2]])
    assert batch["input_ids"].tolist() == [[100, 101, 102, 103, 104, 105], [300, 301, 302, 200, 201, 0]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 103, 104, 105], [-100, 301, 302, -100, 201, -100]]
    assert "shift_labels" not in batch


def test_flash_attention_gets_all_rows_as_one_sequence() -> None:
    rows = [row(100, 4), row(200, 3), row(300, 2)]
    batch = RowCollator(rows, 9, "flat", multiple=8)([[2], [0, 1]])
    assert batch["input_ids"].tolist() == [[300, 100, 101, 102, 200, 201, 9, 9]]
    assert batch["position_ids"].tolist() == [[0, 0, 1, 2, 0, 1, 0, 1]]


def test_the_padded_layout_leaves_the_mask_out_and_the_masked_one_has_it() -> None:
    rows = [row(100, 5), row(200, 3, weight=0.5)]
    padded = RowCollator(rows, 9, "padded")([[0], [1]])
    assert padded["input_ids"].tolist() == [[100, 101, 102, 103], [200, 201, 9, 9]]
    assert padded["position_ids"].tolist() == [[0, 1, 2, 3]] * 2
    assert padded["weights"].tolist() == [[1, 1, 1, 1], [0.5, 0.5, 1, 1]]
    masked = RowCollator(rows, 9, "masked")([[0], [1]])
    assert masked["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert "position_ids" not in masked
