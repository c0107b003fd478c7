"""Log-probabilities and embeddings, against one plain forward per row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines.conftest import Opener

from harness.engines.base import LogprobRequest, Logprobs
from harness.engines.forward import Forward
from harness.engines.lengths import Unservable
from harness.engines.transformers import TransformersEngine
from harness.errors import Transient


def asked(count: int) -> list[LogprobRequest]:
    rng = np.random.default_rng(3)
    rows = []
    for at in range(count):
        ids = tuple(rng.integers(10, 300, rng.integers(2, 100)).tolist())
        rows.append(LogprobRequest(id=str(at), ids=ids, start=int(rng.integers(0, len(ids)))))
    return rows


def plain(engine: TransformersEngine, request: LogprobRequest) -> tuple[np.ndarray, np.ndarray]:
    import torch

    assert engine._forward is not None
    with torch.inference_mode():
        logits = engine._forward.model(input_ids=torch.tensor([request.ids])).logits[0].float()
    start = max(1, request.start)
    targets = torch.tensor(request.ids[start:])
    before = logits[start - 1 : -1]
    values = before.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    return values.numpy(), (before.argmax(-1) == targets).numpy()


@pytest.mark.parametrize("tokens", [1, 64, 4096])
def test_values_and_greedy_flags_equal_a_plain_forward(opener: Opener, tokens: int) -> None:
    engine = opener(batch_tokens=tokens)
    requests = asked(40)
    done = {result.request_id: result for result in engine.logprobs(requests)}
    assert len(done) == 40
    for request in requests:
        values, greedy = plain(engine, request)
        assert done[request.id].values.dtype == np.float32
        np.testing.assert_allclose(done[request.id].values, values, atol=1e-4)
        np.testing.assert_array_equal(done[request.id].greedy, greedy)


def test_greedy_flags_are_set_on_what_the_model_would_write(engine: TransformersEngine) -> None:
    import torch

    assert engine._forward is not None
    ids = [20, 30]
    for _ in range(10):
        with torch.inference_mode():
            ids.append(int(engine._forward.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    (result,) = engine.logprobs([LogprobRequest(id="x", ids=tuple(ids), start=2)])
    assert result.greedy.all()
    assert len(result.values) == 10


def test_start_counts_from_the_first_id_that_has_a_predecessor(engine: TransformersEngine) -> None:
    ids = tuple(range(20, 30))
    zero, one, five, all_ = engine.logprobs([LogprobRequest(id=str(s), ids=ids, start=s) for s in (0, 1, 5, 10)])
    assert [len(r.values) for r in (zero, one, five, all_)] == [9, 9, 5, 0]
    np.testing.assert_array_equal(zero.values, one.values)
    np.testing.assert_allclose(five.values, zero.values[4:], atol=1e-6)


def test_a_single_id_has_nothing_to_score(engine: TransformersEngine) -> None:
    (result,) = engine.logprobs([LogprobRequest(id="x", ids=(20,), start=0)])
    assert isinstance(result, Logprobs)
    assert result.values.shape == result.greedy.shape == (0,)


def test_the_vocabulary_is_computed_at_scored_positions_only(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opener()
    forward = engine._forward
    assert forward is not None
    seen: list[int] = []
    head = forward.head

    def counting(states: Any) -> Any:
        seen.append(states.shape[0])
        return head(states)

    monkeypatch.setattr(forward, "head", counting)
    list(engine.logprobs([LogprobRequest(id=str(n), ids=tuple(range(20, 90)), start=65) for n in range(8)]))
    assert sum(seen) == 8 * 5


def test_the_last_id_may_stand_beyond_the_context(engine: TransformersEngine) -> None:
    ids = tuple(20 + at % 200 for at in range(129))
    (long,) = engine.logprobs([LogprobRequest(id="x", ids=ids, start=100)])
    (short,) = engine.logprobs([LogprobRequest(id="x", ids=ids[:-1], start=100)])
    np.testing.assert_allclose(long.values[:-1], short.values, atol=1e-5)


def test_requests_that_differ_in_their_last_id_are_read_once(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opener()
    forward = engine._forward
    assert forward is not None
    read: list[int] = []
    hidden = type(forward).hidden

    def counting(self: Forward, ids: Any, *rest: Any) -> Any:
        read.append(len(ids))
        return hidden(self, ids, *rest)

    monkeypatch.setattr(type(forward), "hidden", counting)
    head = tuple(range(20, 60))
    requests = [LogprobRequest(id=str(last), ids=(*head, last), start=40) for last in (61, 62, 63, 64)]
    requests.append(LogprobRequest(id="more", ids=(*head, 61), start=30))
    done = {result.request_id: result for result in engine.logprobs(requests)}
    assert read == [1]
    for request in requests:
        values, greedy = plain(engine, request)
        np.testing.assert_allclose(done[request.id].values, values, atol=1e-4)
        np.testing.assert_array_equal(done[request.id].greedy, greedy)


def test_requests_that_cannot_be_scored_are_named(engine: TransformersEngine) -> None:
    good = LogprobRequest(id="good", ids=(20, 21), start=1)
    long = LogprobRequest(id="long", ids=(20,) * 130, start=1)
    beyond = LogprobRequest(id="beyond", ids=(20, 21), start=3)
    with pytest.raises(Unservable, match=r"long: it has 130 tokens and the model's context is 128.*beyond.*position 3"):
        list(engine.logprobs([good, long, beyond]))


def test_an_embedding_is_the_mean_of_the_last_hidden_states(opener: Opener) -> None:
    import torch

    engine = opener(batch_tokens=100)
    assert engine._forward is not None
    rows = [tuple(range(20, 20 + length)) for length in (1, 50, 7, 90, 7)]
    found = engine.embed(rows)
    assert found.shape == (5, 64)
    assert found.dtype == np.float32
    for row, vector in zip(rows, found, strict=True):
        with torch.inference_mode():
            out = engine._forward.model(input_ids=torch.tensor([row]), output_hidden_states=True)
        np.testing.assert_allclose(vector, out.hidden_states[-1][0].mean(0).numpy(), atol=1e-4)
    assert engine.embed([]).shape == (0, 64)


def test_an_empty_sequence_has_no_embedding(engine: TransformersEngine) -> None:
    with pytest.raises(Unservable, match="request 1: it has no tokens"):
        engine.embed([(20,), ()])


def test_when_memory_runs_out_batches_shrink(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    engine, hidden = opener(), Forward.hidden
    requests = asked(30)
    truth = {result.request_id: result.values for result in engine.logprobs(requests)}

    def scarce(self: Forward, ids: Any, keep: Any = None) -> Any:
        if ids.numel() > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(self, ids, keep)

    monkeypatch.setattr(Forward, "hidden", scarce)
    for result in engine.logprobs(requests):
        np.testing.assert_allclose(result.values, truth[result.request_id], atol=1e-4)
    monkeypatch.setattr(Forward, "hidden", lambda *_: scarce(engine._forward, torch.zeros(400)))  # type: ignore[arg-type]
    with pytest.raises(Transient, match="tokens alone do not fit"):
        list(engine.logprobs(requests))


def test_nothing_of_a_batch_outlives_it(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    engine, hidden, kept = opener(batch_tokens=400), Forward.hidden, []

    def watched(self: Forward, ids: Any, keep: Any = None) -> Any:
        out = hidden(self, ids, keep)
        kept.append(weakref.ref(out))
        return out

    monkeypatch.setattr(Forward, "hidden", watched)
    results = []
    for result in engine.logprobs(asked(60)):
        results.append(result)
        assert sum(ref() is not None for ref in kept) <= 1
    gc.collect()
    assert len(kept) > 5
    assert not any(ref() is not None for ref in kept), "hidden states are held by the results"
    assert all(result.values.base is None or result.values.base.nbytes < 10_000 for result in results)


def test_memory_does_not_grow_with_the_number_of_rows(opener: Opener) -> None:
    import psutil

    engine, process = opener(), psutil.Process()

    def score(first: int, last: int) -> int:
        rows = [
            LogprobRequest(id=str(at), ids=tuple(10 + (at * 31 + place * 7) % 300 for place in range(120)), start=1)
            for at in range(first, last)
        ]
        return sum(len(result.values) for result in engine.logprobs(rows))

    score(0, 200)
    growth = []
    for window in range(3):  # what an allocator takes once is no growth; what every window takes is
        before = process.memory_info().rss
        assert score(200 + 500 * window, 700 + 500 * window) == 500 * 119
        growth.append(process.memory_info().rss - before)
    assert min(growth) < 8 * 2**20
