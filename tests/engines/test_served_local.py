"""Servers that loopbench starts itself: the real vLLM, where it is installed, and the program that keeps it.

One server answers most tests here, because it takes half a minute to start on a quiet machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.models import bundled
from harness.engines import capabilities, check, open_engine, ready
from harness.engines.base import Completion, GenerateRequest, LogprobRequest, ModelSpec, Sampling, Unanswered
from harness.engines.openai import OpenAIEngine
from harness.engines.served import keeper
from harness.engines.served import local as local_servers
from harness.engines.served.asking import Place
from harness.engines.served.settings import Served
from harness.engines.served.wire import Reply
from harness.engines.transformers import TransformersEngine
from harness.engines.vllm.installed import build
from harness.errors import Transient, UserError
from harness.pocket.pool import rows
from harness.store.home import Home

FOLDER = bundled()["pocket/chat"]
needs_vllm = pytest.mark.skipif(build() is None, reason="vLLM is not installed: see docs/engines.md")


def spec(folder: Path = FOLDER, **options: Any) -> ModelSpec:
    small = {"kv_cache_memory_bytes": 2**28}
    return ModelSpec(name="pocket/chat", engine="openai", path=folder, revision="r1", options=small | options)


def asked(chat: Any, count: int, **sampling: Any) -> list[GenerateRequest]:
    """Questions of the pocket world, rendered."""
    settings = Sampling(**{"max_tokens": 96, **sampling})
    return [
        GenerateRequest(
            id=str(n), prompt=chat.render(row["messages"][:1], add_generation_prompt=True), sampling=settings, seed=n
        )
        for n, row in enumerate(rows(count, 5))
    ]


def by_id(done: Iterator[Completion | Unanswered] | Sequence[Completion]) -> dict[tuple[str, int], Completion]:
    found = [one for one in done if isinstance(one, Completion)]
    return {(one.request_id, one.draw): one for one in found}


def until(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.1)
    return what()


def runs(pid: int) -> bool:
    """Whether a process runs (one that ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Processes that this one started, and theirs."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    own = [int(line) for line in found.stdout.split()]
    return own + [below for child in own for below in children(child)]


# --- the keeper -----------------------------------------------------------------------------------------------------
SLEEPER = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "time.sleep(600)"
)


def kept(parent: int, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", str(keeper.__file__), str(parent), *command], start_new_session=True)


def test_a_kept_server_ends_with_its_parent_even_where_that_is_killed(tmp_path: Path) -> None:
    """The parent here is a process of its own, which starts the keeper as the engine does, and is then killed."""
    starter = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-I', {str(keeper.__file__)!r}, str(os.getpid()), sys.executable, '-c', "
        f"{SLEEPER!r}], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter])
    assert until(lambda: len(children(parent.pid)) == 3), "the keeper, the server, and what the server started"
    below = children(parent.pid)
    parent.kill()
    parent.wait()
    assert _gone(*below), "all of them ended"


def _both(pid: int) -> list[int]:
    assert until(lambda: len(children(pid)) == 2)
    return children(pid)


def _gone(*pids: int) -> bool:
    return until(lambda: not any(runs(pid) for pid in pids))


def test_a_kept_server_ends_with_all_that_it_started_when_it_is_told_or_killed() -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        process = kept(os.getpid(), sys.executable, "-c", SLEEPER)
        server, helper = _both(process.pid)
        os.kill(process.pid if end == signal.SIGTERM else server, end)
        assert process.wait(20) == 128 + end
        assert _gone(server, helper)


def test_the_keeper_tells_how_its_server_ended() -> None:
    assert kept(os.getpid(), sys.executable, "-c", "raise SystemExit(3)").wait(20) == 3
    assert kept(os.getppid() + 10**6, sys.executable, "-c", SLEEPER).wait(20) == 128 + signal.SIGKILL, "no such parent"


# --- settings -------------------------------------------------------------------------------------------------------
def test_a_folder_to_serve_offers_all_but_embeddings() -> None:
    assert capabilities(spec()) == {"generate", "continue", "turns", "logprobs", "weights"}
    assert capabilities(replace(spec(), path=None)) >= {"generate", "weights"}, "one that is still to be trained"


@pytest.mark.skipif(build() is not None, reason="vLLM is installed")
def test_without_vllm_a_folder_cannot_be_served_and_the_message_says_what_to_do() -> None:
    check(spec())
    for refuses in (ready, open_engine):
        with pytest.raises(UserError, match=r"loopbench would serve it with vLLM, and that is not installed.*`url:`"):
            refuses(spec())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_modellen": 5}, "no option 'max_modellen'; did you mean 'max_model_len'"),
        ({"max_model_len": 1024}, "has a context of 512 tokens, and its option max_model_len is 1024"),
    ],
)
def test_wrong_options_are_found_before_anything_is_started(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check(spec(**options))


def test_a_server_has_a_name_of_its_own_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So one that took its port first answers nothing in its place; and no key that is meant for another."""
    monkeypatch.setenv("VLLM_API_KEY", "sk-elsewhere")
    monkeypatch.setattr(local_servers, "build", lambda: "cpu")
    one, two = (local_servers.LocalServer(spec(), Home(tmp_path)) for _ in range(2))
    assert one.model != two.model
    command = one.command()
    assert command[command.index("--served-model-name") + 1] == one.model
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "VLLM_API_KEY" not in one._environment()


def test_a_server_takes_its_part_of_a_gpu_that_is_shared_or_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_servers, "build", lambda: "gpu")
    given: list[tuple[dict[str, Any], str]] = [({}, "0.3"), ({"gpu_memory_utilization": 0.8}, "0.8")]
    for options, said in given:
        command = local_servers.LocalServer(spec(**options), Home(tmp_path), models=3).command()
        assert command[command.index("--gpu-memory-utilization") + 1] == said


def test_a_folder_served_again_with_another_length_knows_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is probed, so nothing of the former server is kept but replies, and those go by the options."""
    monkeypatch.setattr(local_servers, "build", lambda: "cpu")
    monkeypatch.setattr(local_servers, "ready", lambda spec: None)
    monkeypatch.setattr(local_servers.LocalServer, "start", lambda server: None)
    engines = [OpenAIEngine(one, Home(tmp_path)) for one in (spec(), spec(max_model_len=100))]
    assert [engine.context for engine in engines] == [512, 100]
    assert [engine.offer.context for engine in engines] == [512, 100]
    assert len({engine.served.identity for engine in engines}) == 2, "replies of the one are none of the other"
    assert not list((tmp_path / "served").glob("*.json"))
    for engine in engines:
        engine.close()


def test_a_reply_in_hand_starts_no_server_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends while its replies are read is for the next call to start, when no call is under way."""
    engine = OpenAIEngine.__new__(OpenAIEngine)
    engine.spec, engine.served = spec(), Served.of(spec())
    monkeypatch.setattr(engine, "_asker", lambda: pytest.fail("asked for the server"), raising=False)
    reply = Reply(text="a", finish="stop", prompt_tokens=1, completion_tokens=1, token_ids=(5,))
    request = GenerateRequest(id="0", prompt=(2, 5), sampling=Sampling(max_tokens=2))
    done = engine._result(request, Place("0"), reply)
    assert isinstance(done, Completion)
    assert done.token_ids == (5,)


def test_every_call_carries_the_name_that_the_server_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first on: the calls of a round are made before its server is looked for."""
    monkeypatch.setattr(local_servers, "ready", lambda spec: None)
    monkeypatch.setattr(local_servers.LocalServer, "start", lambda self: None)
    engine = OpenAIEngine(spec(), Home(tmp_path))
    assert engine._local is not None
    works = engine._ids.works(asked(engine.chat, 2))
    works += engine._ids.score_works([LogprobRequest(id="s", ids=(5, 6, 7), start=1)])
    assert {work.call.body["model"] for work in works} == {engine._local.model}


@needs_vllm
def test_a_model_that_does_not_fit_is_explained_and_what_was_said_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pocket/chat could not be opened.*All that it said is in .*\.log") as caught:
        open_engine(spec(kv_cache_memory_bytes=2**21, max_num_seqs=1), home=Home(tmp_path))
    assert "kv_cache_memory_bytes" in str(caught.value)
    (log,) = (tmp_path / "served" / "logs").glob("*.log")
    assert "the server ended with" in log.read_text()


# --- one real server ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def local() -> Iterator[TransformersEngine]:
    engine = TransformersEngine(ModelSpec(name="pocket/chat", path=FOLDER, device="cpu"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIEngine]:
    engine = OpenAIEngine(spec(), Home(tmp_path_factory.mktemp("home")))
    yield engine
    engine.close()


@needs_vllm
def test_greedy_texts_are_those_of_the_transformers_engine(served: OpenAIEngine, local: TransformersEngine) -> None:
    wanted = asked(local.chat, 200)
    here, there = by_id(local.generate(wanted)), by_id(served.generate(wanted))
    assert len(here) == 200
    assert [there[key].text for key in here] == [one.text for one in here.values()]
    assert [(there[key].token_ids, there[key].finish) for key in here] == [
        (one.token_ids, one.finish) for one in here.values()
    ]


@needs_vllm
def test_stop_strings_biases_and_likely_tokens_are_those_of_the_transformers_engine(
    served: OpenAIEngine, local: TransformersEngine
) -> None:
    token = local.chat.encode("=")[-1]
    for settings in ({"stop": ("=", "#")}, {"logit_bias": {token: -100.0}}, {"top_logprobs": 4}, {"ends": "text"}):
        wanted = asked(local.chat, 12, **settings)
        here, there = by_id(local.generate(wanted)), by_id(served.generate(wanted))
        for key, one in here.items():
            other = there[key]
            assert (one.text, one.token_ids, one.finish) == (other.text, other.token_ids, other.finish), settings
            for ours, theirs in zip(one.top_logprobs, other.top_logprobs, strict=True):
                np.testing.assert_allclose(list(theirs.values()), list(ours.values()), atol=1e-3)


@needs_vllm
def test_scores_are_those_of_the_transformers_engine(served: OpenAIEngine, local: TransformersEngine) -> None:
    rng = np.random.default_rng(0)
    texts = [tuple(request.prompt) for request in asked(local.chat, 8)]
    wanted = [LogprobRequest(id=str(n), ids=ids, start=n % 3) for n, ids in enumerate(texts)]
    whole = tuple(rng.integers(10, 400, local.context + 1 if local.context else 1).tolist())
    wanted.append(LogprobRequest(id="whole context and one", ids=whole, start=0))
    here = {one.request_id: one for one in local.logprobs(wanted)}
    there = {one.request_id: one for one in served.logprobs(wanted)}
    for name, one in here.items():
        np.testing.assert_allclose(there[name].values, one.values, atol=1e-3)
        np.testing.assert_array_equal(there[name].greedy, one.greedy)


@needs_vllm
def test_samples_repeat_and_draws_differ(served: OpenAIEngine, local: TransformersEngine) -> None:
    for first in (None, 1.9):
        wanted = asked(local.chat, 12, temperature=2.0, n=3, first_temperature=first)
        wanted = [replace(request, fresh=True) for request in wanted]  # not from the home
        one, two = by_id(served.generate(wanted)), by_id(served.generate(wanted))
        assert len(one) == 36
        assert {key: c.token_ids for key, c in one.items()} == {key: c.token_ids for key, c in two.items()}
        assert len({c.token_ids for c in one.values()}) > 12, "some of a prompt's draws differ"


@needs_vllm
def test_the_server_is_for_this_machine_alone(served: OpenAIEngine) -> None:
    assert served._local is not None
    assert served._local.url.startswith("http://127.0.0.1:")
    port = int(served._local.url.split(":")[2].split("/")[0])
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    places = [entry[1].split(":") for entry in listening if entry[3] == "0A"]
    assert {host for host, number in places if int(number, 16) == port} == {"0100007F"}


@needs_vllm
def test_a_server_that_is_killed_keeps_what_it_gave_and_is_started_again(
    served: OpenAIEngine, local: TransformersEngine
) -> None:
    """Its whole work is asked again as a stage's second try does: only what is missing goes to the new server."""
    assert served._local is not None
    assert served._local.pid is not None
    wanted = asked(local.chat, 300, temperature=0.9, max_tokens=24)
    processes = children(served._local.pid)
    got: list[Completion | Unanswered] = []

    def kill_it_midway() -> None:
        for one in served.generate(wanted):
            got.append(one)
            if len(got) == 5:
                os.kill(processes[0], signal.SIGKILL)

    with pytest.raises(Transient, match=r"the vLLM process of the model pocket/chat ended \(killed by SIGKILL\)"):
        kill_it_midway()
    assert 5 <= len(got) < 300
    assert _gone(*processes), "nothing of the server is left"
    replies = sum(1 for _ in served._home.replies.rglob("*.json"))
    done = by_id(served.generate(wanted))
    assert len(done) == 300
    (note,) = served.notes()
    assert note.endswith("Its server was started again.")
    for one in got:
        assert isinstance(one, Completion)
        assert done[one.request_id, one.draw].token_ids == one.token_ids
    assert sum(1 for _ in served._home.replies.rglob("*.json")) <= replies + 300 - len(got)


@needs_vllm
def test_nothing_is_booked_for_what_nobody_is_paid_for(served: OpenAIEngine, local: TransformersEngine) -> None:
    assert by_id(served.generate(asked(local.chat, 2)))
    assert not (served._home.path / "spent").exists()


@needs_vllm
def test_a_closed_engine_leaves_no_process(served: OpenAIEngine) -> None:
    """The last test here: it ends the server."""
    assert served._local is not None
    assert served._local.pid is not None
    below = [served._local.pid, *children(served._local.pid)]
    served.close()
    assert not any(runs(pid) for pid in below)


@needs_vllm
def test_an_adapter_is_served_over_its_base_and_writes_what_the_merged_one_writes(
    tmp_path: Path, local: TransformersEngine
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    layers = ["q_proj", "v_proj"]
    config = LoraConfig(r=4, lora_alpha=16, target_modules=layers, init_lora_weights=False, task_type="CAUSAL_LM")
    folder = tmp_path / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(FOLDER), config).save_pretrained(folder)
    merged = TransformersEngine(ModelSpec(name="adapter", path=folder, device="cpu"))
    served = open_engine(spec(folder), home=Home(tmp_path))
    try:
        wanted = asked(local.chat, 12)
        one, two, base = (by_id(engine.generate(wanted)) for engine in (merged, served, local))
        assert {key: c.text for key, c in two.items()} == {key: c.text for key, c in one.items()}
        assert any(c.text != base[key].text for key, c in one.items()), "the adapter changes what is written"
    finally:
        served.close()
        merged.close()
