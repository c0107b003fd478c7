"""What the decode loop writes, against one plain forward per row and token."""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engines.conftest import Opener, Requests, first_gap

from harness.blocks.kinds import Ask, Context, Score
from harness.engines.base import Completion, GenerateRequest, Sampling, in_order
from harness.engines.forward import Forward
from harness.engines.lengths import Unservable
from harness.engines.transformers import TransformersEngine
from harness.errors import Transient, UserError
from harness.loop.drive import Desk, drive

NEAR_TIE = 1e-3


def by_key(done: list[Completion]) -> dict[tuple[str, int], Completion]:
    return {(completion.request_id, completion.draw): completion for completion in done}


def model_of(engine: TransformersEngine) -> Any:
    assert engine._forward is not None
    return engine._forward.model


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.8},
        {"temperature": 0.0, "first_temperature": 2.0, "first_bans": tuple(range(100))},
        {"temperature": 1.3, "logit_bias": {5: 4.0, 17: -100.0}},
    ],
    ids=["greedy", "plain", "nucleus", "first token", "bias"],
)
def test_every_token_is_the_one_that_the_definition_gives(
    engine: TransformersEngine, requests: Requests, sampling: dict[str, Any]
) -> None:
    asked = requests(12, **sampling)
    done = by_key(list(engine.generate(asked)))
    assert len(done) == len(asked)
    for request in asked:
        got = done[request.id, 0]
        gap = first_gap(model_of(engine), request, 0, got.token_ids)
        assert gap is None or gap < NEAR_TIE
        assert len(got.token_ids) == request.sampling.max_tokens or got.token_ids[-1] in engine.chat.stop_ids


def test_a_sample_does_not_depend_on_the_batch(opener: Opener, requests: Requests) -> None:
    asked = requests(120)
    alone = by_key(list(opener(batch_rows=3).generate(asked)))
    for rows, order in ((17, 1), (32, -1), (120, 1)):
        done = by_key(list(opener(batch_rows=rows).generate(asked[::order])))
        other = [request for request in asked if done[request.id, 0].token_ids != alone[request.id, 0].token_ids]
        assert len(other) <= len(asked) // 100
        for request in other:
            gap = first_gap(model_of(opener()), request, 0, done[request.id, 0].token_ids)
            assert gap is None or gap < NEAR_TIE


def test_the_same_batch_gives_the_same_bytes(opener: Opener, requests: Requests) -> None:
    asked = requests(30, top_logprobs=3, n=2)
    engine = opener(batch_rows=16)
    first = list(engine.generate(asked))
    assert first == list(engine.generate(asked))
    assert first == list(opener(batch_rows=16).generate(asked))


def test_samples_follow_the_softmax(engine: TransformersEngine) -> None:
    prompt, count = (20, 30, 40), 6000
    asked = [
        GenerateRequest(id=str(seed), prompt=prompt, sampling=Sampling(max_tokens=1, temperature=1.0, n=2), seed=seed)
        for seed in range(count // 2)
    ]
    drawn = Counter(completion.token_ids[0] for completion in engine.generate(asked))
    import torch

    with torch.inference_mode():
        shares = model_of(engine)(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1).numpy()
    likely = np.flatnonzero(shares * count >= 8)
    rest = count - sum(drawn[int(token)] for token in likely)
    expected = np.append(shares[likely], 1 - shares[likely].sum()) * count
    seen = np.append([drawn[int(token)] for token in likely], rest)
    chi_square = float(((seen - expected) ** 2 / expected).sum())
    degrees = len(likely)
    assert len(likely) > 10
    assert abs(chi_square - degrees) < 4 * (2 * degrees) ** 0.5


def test_draws_differ_and_each_is_what_it_is_alone(engine: TransformersEngine, requests: Requests) -> None:
    request = replace(requests(1)[0], sampling=Sampling(max_tokens=12, temperature=1.0, n=6))
    (many,) = in_order([request], engine.generate([request]))
    fewer = replace(request, sampling=replace(request.sampling, n=2))
    (two,) = in_order([fewer], engine.generate([fewer]))
    assert [completion.draw for completion in many] == list(range(6))
    assert len({completion.token_ids for completion in many}) == 6
    assert many[:2] == two


def test_greedy_ignores_the_seed(engine: TransformersEngine, requests: Requests) -> None:
    asked = requests(4, temperature=0.0)
    other = [replace(request, seed=request.seed + 1) for request in asked]
    assert by_key(list(engine.generate(asked))) == by_key(list(engine.generate(other)))


def test_first_bans_hold_for_the_first_token_only(engine: TransformersEngine, requests: Requests) -> None:
    allowed = {40, 41, 42}
    bans = tuple(index for index in range(engine._decoder.forward.size) if index not in allowed)
    done = list(engine.generate(requests(30, max_tokens=20, first_bans=bans)))
    assert {completion.token_ids[0] for completion in done} <= allowed
    assert {token for completion in done for token in completion.token_ids[1:]} - allowed


def test_a_stop_id_ends_the_row_and_stays_out_of_the_text(engine: TransformersEngine, requests: Requests) -> None:
    asked = requests(40, max_tokens=40, stop_ids=tuple(range(30, 60)))
    done = list(engine.generate(asked))
    stopped = [completion for completion in done if completion.finish == "stop"]
    assert stopped
    for completion in done:
        ends = [
            at for at, token in enumerate(completion.token_ids) if 30 <= token < 60 or token in engine.chat.stop_ids
        ]
        assert ends == ([len(completion.token_ids) - 1] if completion.finish == "stop" else [])
        kept = completion.token_ids[:-1] if completion.finish == "stop" else completion.token_ids
        assert completion.text == engine.chat.decode(kept)


def test_a_stop_string_ends_the_row_as_soon_as_it_is_written(engine: TransformersEngine, requests: Requests) -> None:
    asked = requests(60, max_tokens=40)
    free = by_key(list(engine.generate(asked)))
    stops = ("e", "ow")
    done = by_key(list(engine.generate([replace(r, sampling=replace(r.sampling, stop=stops)) for r in asked])))
    hit = 0
    for key, completion in done.items():
        text = free[key].text
        at = min((text.find(stop) for stop in stops if stop in text), default=None)
        if at is None:
            assert completion == free[key]
            continue
        hit += 1
        assert completion.finish == "stop"
        assert completion.text == text[:at]
        assert completion.token_ids == free[key].token_ids[: len(completion.token_ids)]
        assert not any(stop in engine.chat.decode(completion.token_ids[:-1]) for stop in stops)
    assert hit > 5


def test_requests_of_one_call_may_want_different_things(engine: TransformersEngine, requests: Requests) -> None:
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"stop": ("e",), "top_p": 0.5},
        {"logit_bias": {7: 3.0}, "top_logprobs": 2},
        {"n": 3, "first_temperature": 0.0},
    ]
    mixed = [replace(requests(4, **kind)[at], id=f"k{at}") for at, kind in enumerate(kinds)]
    together = by_key(list(engine.generate(mixed)))
    for request in mixed:
        for key, completion in by_key(list(engine.generate([request]))).items():
            assert completion.token_ids == together[key].token_ids
            assert completion.text == together[key].text
            assert len(together[key].top_logprobs) == (len(completion.token_ids) if request.id == "k2" else 0)


def test_top_logprobs_are_the_models_own(engine: TransformersEngine, requests: Requests) -> None:
    import torch

    asked = requests(5, top_logprobs=4, temperature=0.0, logit_bias={9: 50.0}, max_tokens=3)
    for request, (completion,) in zip(asked, in_order(asked, engine.generate(asked)), strict=True):
        ids = list(request.prompt)
        for token, likely in zip(completion.token_ids, completion.top_logprobs, strict=True):
            with torch.inference_mode():
                truth = model_of(engine)(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            values, tokens = truth.topk(4)
            assert list(likely) == tokens.tolist()
            assert list(likely.values()) == pytest.approx(values.tolist(), abs=1e-4)
            ids.append(token)
        for likely, by_text in zip(completion.top_logprobs, completion.top_texts, strict=True):
            best = engine.chat.tokenizer.decode([next(iter(likely))])
            # Tokens of equal text count as one, so the likeliest token's text need not be the likeliest text.
            assert best.strip() in {text.strip() for text in by_text}
            assert list(by_text.values()) == sorted(by_text.values(), reverse=True)
            assert sum(map(math.exp, by_text.values())) == pytest.approx(sum(map(math.exp, likely.values())))


def test_a_row_that_reaches_the_context_ends_by_length(engine: TransformersEngine) -> None:
    bias = dict.fromkeys(engine.chat.stop_ids, -1000.0)
    sampling = Sampling(max_tokens=500, temperature=1.0, logit_bias=bias)
    (done,) = engine.generate([GenerateRequest(id="long", prompt=tuple(range(10, 110)), sampling=sampling)])
    assert (len(done.token_ids), done.finish, done.prompt_tokens) == (28, "length", 100)


def test_unservable_requests_are_all_named_before_anything_is_generated(
    engine: TransformersEngine, requests: Requests
) -> None:
    good = requests(2)
    long = replace(good[0], id="too-long", prompt=tuple(range(10, 210)))
    empty = replace(good[0], id="empty", prompt=())
    with pytest.raises(
        Unservable, match=r"too-long: its prompt has 200 tokens and the model's context is 128.*empty"
    ) as info:
        next(iter(engine.generate([*good, long, empty])))
    assert set(info.value.faults) == {"too-long", "empty"}
    assert info.value.exit_code == 2


def test_ids_outside_the_vocabulary_are_refused(engine: TransformersEngine, requests: Requests) -> None:
    (good,) = requests(1)
    foreign = replace(good, id="foreign", prompt=(20, 5000))
    banned = replace(good, id="banned", sampling=Sampling(first_bans=(5000,)))
    biased = replace(good, id="biased", sampling=Sampling(logit_bias={-1: 2.0}))
    with pytest.raises(Unservable, match="token id 5000, which the model's vocabulary of 318 does not have") as info:
        list(engine.generate([foreign, banned, biased, good]))
    assert set(info.value.faults) == {"foreign", "banned", "biased"}


@pytest.mark.parametrize(
    ("prompt", "tokens", "reason"),
    [
        ((), 2, "its prompt is empty"),
        ((20, 21), 0, "it asks for no tokens"),
        ((20, 5000), 2, "it has the token id 5000"),
        (tuple(range(20, 160)), 2, "exceeds the context of 128"),
    ],
)
def test_a_request_that_cannot_be_served_fails_its_row_and_the_others_go_on(
    engine: TransformersEngine, prompt: tuple[int, ...], tokens: int, reason: str
) -> None:
    def row(ids: tuple[int, ...], count: int) -> Any:
        ((reply,),) = yield [Ask(model="m", ids=ids, sampling=Sampling(max_tokens=count))]
        return reply.new_tokens

    desk = Desk(lambda _: engine, Context())
    found = drive({"bad": row(prompt, tokens), "good": row((20, 21), 2)}, desk)
    assert found["good"] in (1, 2)
    assert reason in found["bad"].reason
    assert found["bad"].expected


def test_ids_that_cannot_be_scored_fail_their_row_and_the_others_go_on(engine: TransformersEngine) -> None:
    def row(ids: tuple[int, ...], start: int) -> Any:
        (reply,) = yield [Score(model="m", ids=ids, start=start)]
        return len(reply.values)

    desk = Desk(lambda _: engine, Context())
    found = drive({"none": row((), 0), "beyond": row((20, 21), 4), "good": row((20, 21, 22), 1)}, desk)
    assert found["good"] == 2
    assert found["none"].reason == "RowFailed: it has no tokens"
    assert "scored from position 4" in found["beyond"].reason
    assert desk.cost["scored_tokens"] == 3


def test_no_requests_give_no_completions(engine: TransformersEngine) -> None:
    assert list(engine.generate([])) == []


def limited(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Lets memory run out as soon as more than `rows` rows are decoded at once."""
    import torch

    step = Forward.step

    def scarce(self: Forward, ids: Any, slots: Any) -> Any:
        if len(ids) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return step(self, ids, slots)

    monkeypatch.setattr(Forward, "step", scarce)


def test_when_memory_runs_out_smaller_batches_give_the_same(
    opener: Opener, requests: Requests, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(50)
    free = by_key(list(opener(batch_rows=32).generate(asked)))
    limited(monkeypatch, 8)
    with caplog.at_level(logging.WARNING):
        done = list(opener(batch_rows=32).generate(asked))
    assert len(done) == len(asked)
    same = [completion.token_ids == free[completion.request_id, 0].token_ids for completion in done]
    assert np.mean(same) >= 0.99
    assert "out of memory on cpu with 32 rows at once; going on with 16" in caplog.text


def test_memory_for_not_even_one_row_is_worth_a_later_try(
    opener: Opener, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opener()
    limited(monkeypatch, 0)
    with pytest.raises(Transient, match="one row alone does not fit"):
        list(engine.generate(requests(3, max_tokens=9)))


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    opener: Opener, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Forward, "step", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(opener().generate(requests(3, max_tokens=9)))


def test_weights_that_are_not_numbers_are_named(opener: Opener, requests: Requests) -> None:
    engine = opener()
    model_of(engine).get_input_embeddings().weight[20:] = float("nan")
    with pytest.raises(UserError, match="logits that are not finite"):
        list(engine.generate(requests(3)))


def test_a_closed_engine_says_so(opener: Opener, requests: Requests) -> None:
    engine = opener()
    engine.close()
    with pytest.raises(RuntimeError, match="was closed"):
        list(engine.generate(requests(1)))
