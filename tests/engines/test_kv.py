"""The key/value store against rows that are kept one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engines.conftest import Opener, Requests, first_gap

from harness.engines.base import LogprobRequest
from harness.engines.forward import Forward
from harness.engines.kv import Prefill, Slots, as_cache
from harness.engines.limits import SPARE

HEADS, WIDTH = 2, 3


def prompt(rows: list[list[float]]) -> Prefill:
    """A prefill whose keys are the numbers of the rows (right-padded with -1) and whose values are their negatives."""
    import torch

    longest = max(map(len, rows))
    table = torch.tensor([row + [-1.0] * (longest - len(row)) for row in rows])
    keys = table[:, None, :, None].expand(len(rows), HEADS, longest, WIDTH)
    prefill = Prefill()
    for layer in range(2):
        prefill.update(keys + layer, -keys - layer, layer)
    return prefill


def contents(slots: Slots) -> list[list[float]]:
    """What each active row holds, checked to be alike in keys, values, heads and layers."""
    found = []
    for row, start in enumerate(slots.start[: slots.count].tolist()):
        for layer, (keys, values) in enumerate(slots._layers):
            one = keys[row, :, start : slots.at] - layer
            assert (one == one[:1, :, :1]).all()
            assert (values[row, :, start : slots.at] + layer == -one).all()
        found.append(one[0, :, 0].tolist())
    return found


def append(slots: Slots, numbers: list[float]) -> None:
    import torch

    keys = torch.tensor(numbers)[:, None, None, None].expand(len(numbers), HEADS, 1, WIDTH)
    for layer in range(2):
        seen, _ = as_cache(slots).update(keys + layer, -keys - layer, layer)
        assert seen.shape == (len(numbers), HEADS, slots.at + 1 - slots.low, WIDTH)
    slots.advance()


def test_rows_keep_their_content_through_joining_leaving_and_moving() -> None:
    rng = np.random.default_rng(0)
    slots, fresh = Slots(6, "cpu"), iter(range(1, 100_000))
    truth: list[list[float]] = []
    for _ in range(700):
        free = 6 - len(truth)
        if free and (not truth or rng.random() < 0.2):
            lengths = sorted(rng.integers(1, 40, rng.integers(1, free + 1)).tolist(), reverse=True)
            rows = [[float(next(fresh)) for _ in range(length)] for length in lengths]
            slots.place_for(lengths[0])
            slots.insert(prompt(rows), list(enumerate(lengths)))
            truth += rows
        numbers = [float(next(fresh)) for _ in truth]
        append(slots, numbers)
        for row, number in zip(truth, numbers, strict=True):
            row.append(number)
        if rng.random() < 0.3:
            staying = [row for row in range(len(truth)) if rng.random() < 0.7]
            moves = slots.keep(staying)
            kept = dict(moves)
            order = {new: truth[old] for old, new in kept.items()}
            truth = [order.get(at, truth[at]) for at in range(len(staying))]
        assert contents(slots) == truth
        assert slots.low == min((slots.at - len(row) for row in truth), default=slots.at)
    assert slots.capacity < 2 * (40 + 700) + 2 * SPARE


def test_equal_prompts_are_copied_from_one_row() -> None:
    slots = Slots(3, "cpu")
    slots.place_for(2)
    slots.insert(prompt([[5.0, 6.0]]), [(0, 2), (0, 2), (0, 1)])
    assert contents(slots) == [[5.0, 6.0], [5.0, 6.0], [5.0]]


def test_the_store_is_moved_to_the_front_rather_than_grown() -> None:
    slots = Slots(1, "cpu")
    for start in range(30):
        slots.place_for(10)
        slots.insert(prompt([[float(start)] * 10]), [(0, 10)])
        for _ in range(20):
            append(slots, [float(start)])
        assert contents(slots) == [[float(start)] * 30]
        slots.keep([])
    assert slots.capacity <= 10 + SPARE + 40


def test_a_store_with_room_for_all_that_rows_need_is_allocated_once() -> None:
    slots = Slots(2, "cpu", need=10 + 2 * SPARE)
    slots.place_for(10)
    slots.insert(prompt([[1.0] * 10]), [(0, 10)])
    (plane,) = slots._planes
    for _ in range(2 * SPARE - 1):
        append(slots, [1.0])
    assert slots._planes[0] is plane
    assert contents(slots) == [[1.0] * (10 + 2 * SPARE - 1)]


@pytest.mark.parametrize("rows", [[], [0]])
def test_low_follows_the_longest_row_that_stays(rows: list[int]) -> None:
    slots = Slots(2, "cpu")
    slots.place_for(4)
    slots.insert(prompt([[1.0, 2.0, 3.0, 4.0], [5.0]]), [(1, 1), (0, 4)])
    assert slots.low == 0
    slots.keep(rows)
    assert slots.low == (3 if rows else 4)


def test_what_prompts_begin_with_is_read_once(
    opener: Opener, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opener()
    assert engine._forward is not None
    assert engine._forward.continues
    head = tuple(range(30, 80))
    asked = [replace(r, prompt=head + r.prompt[:20]) for r in requests(12, max_tokens=12)]
    scored = [LogprobRequest(id=r.id, ids=r.prompt + r.prompt[:5], start=len(head) + 1) for r in asked]
    monkeypatch.setattr(engine._forward, "continues", False)
    apart = {c.request_id: c.token_ids for c in engine.generate(asked)}
    values = {r.request_id: r for r in engine.logprobs(scored)}
    monkeypatch.setattr(engine._forward, "continues", True)
    read, hidden = [], Forward.hidden

    def counting(self: Forward, ids: Any, keep: Any = None) -> Any:
        read.append(tuple(ids.shape))
        return hidden(self, ids, keep)

    monkeypatch.setattr(Forward, "hidden", counting)
    for completion in engine.generate(asked):
        request = next(r for r in asked if r.id == completion.request_id)
        gap = first_gap(engine._forward.model, request, 0, completion.token_ids)
        assert gap is None or gap < 1e-3
        assert completion.token_ids == apart[completion.request_id] or gap is not None
    assert read[0] == (1, len(head))
    assert all(shape[1] <= 20 for shape in read[1:])
    read.clear()
    for result in engine.logprobs(scored):
        np.testing.assert_allclose(result.values, values[result.request_id].values, atol=1e-4)
        np.testing.assert_array_equal(result.greedy, values[result.request_id].greedy)
    assert sum(rows * columns for rows, columns in read) < 12 * 40 + 2 * len(head)


def test_a_beginning_is_read_apart_only_where_that_spares_something(opener: Opener) -> None:
    forward = opener()._forward
    assert forward is not None
    rows = [(*range(30, 60), last) for last in range(60, 70)]
    assert forward.beginning(rows, 100, 30) is not None
    assert forward.beginning(rows[:1], 0, 30) is None
    assert forward.beginning(rows, 1000, 30) is None
    assert forward.beginning(rows, 0, 15) is None
    assert forward.beginning([(1, *row) for row in rows[:1]] + rows[1:], 0, 30) is None
