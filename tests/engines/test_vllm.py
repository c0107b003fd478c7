"""The vllm engine with a real vLLM on the CPU, against the transformers engine. Opens one model for the whole file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
from vllm_support import MODELS, NEEDED, WHY, asked, gap_at_divergence, questions, spec

from harness.blocks.kinds import Ask, Context
from harness.engines.base import GenerateRequest, LogprobRequest, Sampling, in_order
from harness.engines.lengths import Unservable
from harness.errors import Transient, UserError
from harness.loop.drive import Desk, drive

pytestmark = [pytest.mark.skipif(not NEEDED, reason=WHY), pytest.mark.slow, pytest.mark.timeout(900)]
NEAR = 1e-3
"""Two tokens whose log-probabilities are this close nearly tie."""


@pytest.fixture(scope="module")
def ours() -> Iterator[Any]:
    from harness.engines.vllm.engine import VllmEngine

    engine = VllmEngine(spec("chat"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[Any]:
    from harness.engines.transformers import TransformersEngine

    engine = TransformersEngine(spec("chat", "transformers"))
    yield engine
    engine.close()


def rows(count: int, **sampling: Any) -> list[GenerateRequest]:
    """Random prompts of mixed lengths."""
    rng = np.random.default_rng(count)
    lengths = rng.integers(1, 60, count)
    settings = Sampling(**{"max_tokens": 24} | sampling)
    return [
        GenerateRequest(id=f"r{at}", prompt=tuple(rng.integers(10, 440, n).tolist()), sampling=settings, seed=at + 7)
        for at, n in enumerate(lengths)
    ]


# --- the same texts as the transformers engine -----------------------------------------------------------------------
def test_greedy_answers_to_pocket_questions_are_those_of_the_transformers_engine(ours: Any, plain: Any) -> None:
    requests = asked(plain.chat, questions(200))
    one, other = (in_order(requests, engine.generate(requests)) for engine in (ours, plain))
    gaps = [gap_at_divergence(plain, r, a[0], b[0]) for r, a, b in zip(requests, one, other, strict=True)]
    parted = [gap for gap in gaps if gap is not None]
    print(f"pocket/chat: {len(gaps) - len(parted)} of {len(gaps)} answers equal; gaps where they part: {parted}")
    assert all(gap < NEAR for gap in parted)
    assert len(parted) <= 2
    equal = [a == b for a, b, gap in zip(one, other, gaps, strict=True) if gap is None]
    assert all(equal)  # text, finish and counts too


def test_stop_strings_end_a_row_with_the_token_that_completes_them(ours: Any, plain: Any) -> None:
    requests = rows(40, stop=("the", "na"), max_tokens=40)
    one, other = (in_order(requests, engine.generate(requests)) for engine in (ours, plain))
    assert sum(c[0].finish == "stop" for c in other) > 10
    assert [c[0] for c in one] == [c[0] for c in other]
    assert not any("the" in c[0].text for c in one)


def test_bans_first_temperature_and_biases_act_as_in_the_transformers_engine(ours: Any, plain: Any) -> None:
    greedy = rows(20, top_logprobs=3)
    first = [c[0].token_ids[0] for c in in_order(greedy, plain.generate(greedy))]
    bans = tuple(dict.fromkeys(first))[:8]
    for settings in (
        {"first_bans": bans},
        {"first_bans": bans, "max_tokens": 1},
        {"first_bans": bans, "stop": ("e",)},
        {"logit_bias": {40: 3.0, first[0]: -200.0}},
        {"logit_bias": {41: 2.5}, "first_bans": bans, "first_temperature": 0.0},
    ):
        requests = rows(20, top_logprobs=3, **settings)
        one, other = (in_order(requests, engine.generate(requests)) for engine in (ours, plain))
        assert [c[0].token_ids for c in one] == [c[0].token_ids for c in other]
        assert [(c[0].text, c[0].finish) for c in one] == [(c[0].text, c[0].finish) for c in other]
        for a, b in zip(one, other, strict=True):
            assert len(a[0].top_texts) == len(a[0].token_ids)
            for x, y in zip(a[0].top_logprobs, b[0].top_logprobs, strict=True):
                assert list(x) == list(y)
                assert list(x.values()) == pytest.approx(list(y.values()), abs=1e-4)


def test_a_hot_first_token_varies_and_the_rest_is_greedy(ours: Any) -> None:
    prompt = rows(1)[0].prompt
    settings = Sampling(max_tokens=4, first_temperature=2.0, n=64)
    request = GenerateRequest(id="r", prompt=prompt, sampling=settings, seed=1)
    draws = in_order([request], ours.generate([request]))[0]
    firsts = {c.token_ids[0]: c.token_ids for c in draws}
    assert len(firsts) > 5
    assert all(firsts[c.token_ids[0]] == c.token_ids for c in draws)  # one first token, one rest
    again = in_order([request], ours.generate([request]))[0]
    assert draws == again


# --- seeds -----------------------------------------------------------------------------------------------------------
def test_samples_depend_on_their_request_alone(ours: Any) -> None:
    requests = rows(30, temperature=1.0, top_p=0.95, n=3)
    all_at_once = in_order(requests, ours.generate(requests))
    backwards = in_order(requests, ours.generate(requests[::-1]))
    alone = in_order(requests[5:6], ours.generate(requests[5:6]))
    assert all_at_once == backwards
    assert alone == all_at_once[5:6]
    assert sum(len({c.token_ids for c in draws}) for draws in all_at_once) > 60  # draws differ from each other
    assert [tuple(c.draw for c in draws) for draws in all_at_once] == [(0, 1, 2)] * 30


def test_many_long_seeded_prompts_at_once_are_served(ours: Any) -> None:
    """So many tokens do not fit one step; vLLM 0.32 fails on a CPU when it reads a seeded prompt in parts."""
    rng = np.random.default_rng(3)
    settings = Sampling(max_tokens=2, temperature=1.0)
    requests = [
        GenerateRequest(id=str(at), prompt=tuple(rng.integers(10, 440, 450).tolist()), sampling=settings, seed=at)
        for at in range(24)
    ]
    assert len(list(ours.generate(requests))) == 24


# --- scoring ---------------------------------------------------------------------------------------------------------
def test_log_probabilities_are_those_of_the_transformers_engine(ours: Any, plain: Any) -> None:
    rng = np.random.default_rng(5)
    shapes = [(1, 0), (2, 0), (2, 1), (2, 2), (40, 0), (40, 1), (40, 20), (40, 39), (40, 40), (512, 0), (513, 500)]
    requests = [
        LogprobRequest(id=str(at), ids=tuple(rng.integers(10, 440, n).tolist()), start=start)
        for at, (n, start) in enumerate(shapes)
    ]
    choice = requests[4].ids[:-1]
    requests += [LogprobRequest(id=f"letter {x}", ids=(*choice, x), start=len(choice)) for x in range(20, 24)]
    for text in questions(40):
        ids = plain.chat.render([{"role": "user", "content": text}], add_generation_prompt=True)
        answer = plain.chat.encode("the answer is red")
        requests.append(LogprobRequest(id=text, ids=(*ids, *answer), start=len(ids)))
    one, other = ({r.request_id: r for r in engine.logprobs(requests)} for engine in (ours, plain))
    assert one.keys() == other.keys() == {r.id for r in requests}
    worst = 0.0
    for name, result in other.items():
        mine = one[name]
        assert mine.values.dtype == np.float32
        assert mine.values.shape == result.values.shape
        worst = max(worst, float(np.abs(mine.values - result.values).max(initial=0)))
        assert (mine.greedy == result.greedy).all()
    print(f"largest difference of a log-probability: {worst:.2e}")
    assert worst < 1e-4


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        ((), {}, "its prompt is empty"),
        ((1,) * 512, {}, "512 tokens and the model's context is 512"),
        ((1, 2), {"max_tokens": 0}, "it asks for no tokens"),
        ((1, 9999), {}, "token id 9999"),
    ],
)
def test_what_cannot_be_served_is_refused_and_named(ours: Any, prompt: Any, settings: Any, message: str) -> None:
    good = GenerateRequest(id="good", prompt=(5, 6), sampling=Sampling(max_tokens=2))
    bad = GenerateRequest(id="bad", prompt=prompt, sampling=Sampling(**{"max_tokens": 2} | settings))
    with pytest.raises(Unservable, match=message) as refused:
        list(ours.generate([good, bad]))
    assert list(refused.value.faults) == ["bad"]
    assert len(list(ours.generate([good]))) == 1


def test_what_cannot_be_served_fails_its_row_and_the_others_go_on(ours: Any) -> None:
    def row(ids: tuple[int, ...], tokens: int) -> Any:
        ((reply,),) = yield [Ask(model="m", ids=ids, sampling=Sampling(max_tokens=tokens, ends="text"))]
        return reply.new_tokens

    given = {"good": row((5, 6), 2), "empty": row((), 2), "none": row((5, 6), 0), "long": row((5,) * 600, 2)}
    found = drive(given, Desk(lambda _: ours, Context()))
    assert found.pop("good") in (1, 2)
    assert [one.reason.partition(": ")[2] for one in found.values()] == [
        "its prompt is empty; begin it with a BOS token or some text",
        "it asks for no tokens: max_tokens and n must be at least 1",
        "prompt of 600 tokens exceeds the context of 512",
    ]


def test_too_hot_a_temperature_is_refused(ours: Any) -> None:
    with pytest.raises(UserError, match="vLLM takes at most 2"):
        list(ours.generate(rows(1, temperature=2.5)))


def test_a_call_that_is_given_up_leaves_the_engine_usable(ours: Any) -> None:
    stream = ours.generate(rows(30, max_tokens=200, temperature=1.0))
    next(stream)
    stream.close()
    requests = rows(10)
    assert len(list(ours.generate(requests))) == 10


def test_a_call_that_is_given_up_with_much_unread_does_not_block_the_next(ours: Any) -> None:
    """More than the connection holds on either side: the process cannot send, and we have much to say."""
    stream = ours.generate(rows(400, max_tokens=40, temperature=1.0, top_logprobs=20, ends="text"))
    next(stream)
    time.sleep(3)
    stream.close()
    requests = rows(2500, max_tokens=1)
    assert len(list(ours.generate(requests))) == 2500


def test_two_calls_are_read_in_turn_and_a_third_scores_between_them(ours: Any) -> None:
    first, second = rows(30, temperature=1.0), rows(20, max_tokens=40)
    wanted = [in_order(requests, ours.generate(requests)) for requests in (first, second)]
    pairs = [LogprobRequest(id=r.id, ids=r.prompt, start=0) for r in second if len(r.prompt) > 1]
    values = {r.request_id: r.values for r in ours.logprobs(pairs)}
    one, two = ours.generate(first), ours.generate(second)
    got = ([next(one)], [next(two)])
    for result in ours.logprobs(pairs):
        assert np.abs(result.values - values[result.request_id]).max() < 1e-4
    got[1].append(next(two))
    got[0].extend(one)
    got[1].extend(two)
    assert [in_order(requests, done) for requests, done in zip((first, second), got, strict=True)] == wanted


def test_much_may_be_asked_while_much_of_another_call_is_unread(ours: Any) -> None:
    one = ours.generate(rows(400, max_tokens=40, temperature=1.0, top_logprobs=20, ends="text"))
    next(one)
    time.sleep(3)
    assert len(list(ours.generate(rows(2500, max_tokens=1)))) == 2500
    assert len(list(one)) == 399


def test_rows_come_as_they_finish(ours: Any) -> None:
    short = GenerateRequest(id="short", prompt=(20, 30), sampling=Sampling(max_tokens=2, stop_ids=()))
    long = rows(3, max_tokens=300, temperature=1.0, ends="text")
    stream = ours.generate([*long, short])
    assert next(stream).request_id == "short"
    list(stream)


def test_nothing_embeds(ours: Any) -> None:
    with pytest.raises(UserError, match="engine: transformers"):
        ours.embed([(1, 2)])


# --- a killed process ------------------------------------------------------------------------------------------------
def test_a_killed_process_is_named_keeps_what_was_yielded_and_is_started_anew(ours: Any) -> None:
    requests = rows(60, max_tokens=300, temperature=1.0, ends="text")
    stream, kept = ours.generate(requests), []
    kept.append(next(stream))
    (pid,) = ours.pids
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Transient, match=r"the model chat ended \(killed by SIGKILL\); finished rows are kept"):
        kept.extend(stream)
    assert not psutil.pid_exists(pid)
    again = in_order(requests, ours.generate(requests))
    (new,) = ours.pids
    assert new != pid
    for completion in kept:
        assert again[int(completion.request_id[1:])][completion.draw] == completion


def test_a_killed_core_of_a_process_that_has_one_is_named_and_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where vLLM runs its core in a further process."""
    from harness.engines.vllm.engine import VllmEngine

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    engine = VllmEngine(spec("chat", kv_cache_memory_bytes=2**26))
    requests = rows(40, max_tokens=200, temperature=1.0, ends="text")
    wanted = in_order(requests, engine.generate(requests))
    children = psutil.Process(engine.pids[0]).children(recursive=True)
    core = max(children, key=lambda child: child.memory_info().rss)  # Python's own helpers hold next to nothing
    stream = engine.generate(requests)
    next(stream)
    core.kill()
    with pytest.raises(Transient, match=r"the model chat ended \(its core died\); finished rows are kept"):
        list(stream)
    assert not core.is_running() or core.status() == psutil.STATUS_ZOMBIE
    assert in_order(requests, engine.generate(requests)) == wanted
    family = [psutil.Process(engine.pids[0]), *psutil.Process(engine.pids[0]).children(recursive=True)]
    engine.close()
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


# --- other openings: each takes seconds, so few ----------------------------------------------------------------------
def test_two_copies_answer_as_one_and_closing_ends_their_processes(ours: Any) -> None:
    from harness.engines.vllm.engine import VllmEngine

    requests = rows(20, temperature=1.0)
    wanted = in_order(requests, ours.generate(requests))
    engine = VllmEngine(spec("chat", data_parallel_size=2, max_num_seqs=8, kv_cache_memory_bytes=2**26))
    pids = engine.pids
    assert len(pids) == 2
    assert in_order(requests, engine.generate(requests)) == wanted
    engine.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def adapter(folder: Path, rank: int, seed: int) -> Path:
    """A LoRA adapter over pocket/chat whose update is far from nothing."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(MODELS / "chat")
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    return folder


def test_adapters_are_served_unmerged_and_share_a_process(tmp_path: Path) -> None:
    """Two adapters of one base: each gives what merging it gives, and the second needs no opening."""
    from harness.engines.transformers import TransformersEngine
    from harness.engines.vllm.engine import VllmEngine

    first = VllmEngine(spec("one", path=adapter(tmp_path / "one", 8, 1)))
    second = first.beside(spec("two", path=adapter(tmp_path / "two", 4, 2)), 1)
    assert second is not None
    assert second.pids == first.pids
    assert first.beside(spec("chat"), 1) is None  # the base alone is opened without adapters
    rng = np.random.default_rng(2)
    scored = [LogprobRequest(id=str(at), ids=tuple(rng.integers(10, 440, 60).tolist()), start=1) for at in range(8)]
    told = {}
    for engine in (first, second):
        merged = TransformersEngine(spec("merged", "transformers", path=engine.spec.path))
        requests = asked(merged.chat, questions(20), max_tokens=40)
        one, other = (in_order(requests, e.generate(requests)) for e in (engine, merged))
        gaps = [gap_at_divergence(merged, r, a[0], b[0]) for r, a, b in zip(requests, one, other, strict=True)]
        assert all(gap is None or gap < NEAR for gap in gaps)
        mine, theirs = ({r.request_id: r.values for r in e.logprobs(scored)} for e in (engine, merged))
        told[engine.spec.name] = np.concatenate([mine[r.id] for r in scored])
        assert max(float(np.abs(mine[r.id] - theirs[r.id]).max()) for r in scored) < 1e-4
        merged.close()
    assert float(np.abs(told["one"] - told["two"]).max()) > 0.1
    stream = first.generate(rows(20, max_tokens=60, ends="text"))
    next(stream)
    cast(Generator[Any], stream).close()  # what is still under way for the one is no answer for the other
    requests = rows(20, max_tokens=8)
    assert sorted(c.request_id for c in second.generate(requests)) == sorted(r.id for r in requests)
    first.close()
    assert len(list(second.generate(rows(2)))) == 2
    pids = second.pids
    second.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_start_that_fails_is_explained(tmp_path: Path) -> None:
    from harness.engines.vllm.engine import VllmEngine

    with pytest.raises(UserError, match=r"could not be opened with vLLM: .*`tensor_parallel_size`"):
        VllmEngine(spec("chat", tensor_parallel_size=3, kv_cache_memory_bytes=2**26))


def test_the_process_ends_with_its_worker(tmp_path: Path) -> None:
    """A worker that is killed cannot close anything: its vLLM process sees that it is gone."""
    import subprocess
    import sys

    code = (
        "import sys, time; from pathlib import Path\n"
        "from harness.engines.base import ModelSpec; from harness.engines.vllm.engine import VllmEngine\n"
        f"path = Path({str(MODELS / 'chat')!r})\n"
        "engine = VllmEngine(ModelSpec(name='chat', engine='vllm', path=path, device='cpu'))\n"
        "print(*engine.pids, flush=True); time.sleep(600)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    pid = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    worker.stdout.close()
