"""Served models that are asked by token ids: what is sent, what a reply means, what a server must offer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import Behaviour, ChatServer, Sent, completion, error

from harness.config.models import bundled
from harness.engines import capabilities, open_engine, ready
from harness.engines.base import Completion, GenerateRequest, LogprobRequest, ModelSpec, Sampling, Unanswered
from harness.engines.openai import OpenAIEngine
from harness.engines.sampling import row_key
from harness.errors import StageFailed, UserError
from harness.records.chat import ChatFormat
from harness.store.home import Home

FOLDER = bundled()["pocket/chat"]
CONTEXT = 512


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat.from_folder(FOLDER)


def spec(url: str, **options: Any) -> ModelSpec:
    fast = {"url": url, "model": "judge-1", "deadline": 60.0, "timeout": 20.0}
    return ModelSpec(name="teacher", engine="openai", path=FOLDER, revision="r1", options=fast | options)


def requests(prompts: Sequence[Sequence[int]], **sampling: Any) -> list[GenerateRequest]:
    settings = Sampling(**{"max_tokens": 20, **sampling})
    return [GenerateRequest(id=str(n), prompt=tuple(p), sampling=settings, seed=n) for n, p in enumerate(prompts)]


def vllm(answer: Sequence[int] = (), **more: Any) -> Behaviour:
    """A server as vLLM's: it takes ids, writes `answer`, and scores prompts where it is asked to."""

    def behave(body: Mapping[str, Any], number: int) -> Sent:
        prompt, fields = body["prompt"], dict(more)
        if "prompt_logprobs" in body:
            fields["prompt_logprobs"] = [None, *({str(i): {"logprob": -i / 10, "rank": i % 3}} for i in prompt[1:])]
        if named := body.get("logprob_token_ids"):
            fields["logprobs"] = {"top_logprobs": [{f"token_id:{i}": -i / 10 for i in named}]}
        return completion(answer or [prompt[-1]], "stop", prompt=prompt, **fields)

    return behave


class Opened:
    """An engine of a test, and the calls that its server got after the look at what it offers."""

    def __init__(self, server: ChatServer, home: Path, **options: Any) -> None:
        self.server, self.engine = server, OpenAIEngine(spec(server.url, **options), Home(home))
        self._look = len(server.asked)
        _ = self.engine.context
        self._look = len(server.asked)

    @property
    def asked(self) -> list[dict[str, Any]]:
        return self.server.asked[self._look :]

    def generate(self, wanted: Sequence[GenerateRequest]) -> list[Completion | Unanswered]:
        return sorted(self.engine.generate(wanted), key=lambda c: (c.request_id, getattr(c, "draw", 0)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Any]:
    """Opens an engine at a server that behaves as it is told."""
    closing: list[Any] = []

    def open_it(behave: Behaviour, context: int | None = CONTEXT + 1, **options: Any) -> Opened:
        server = ChatServer(behave, context=context, tokenizer=FOLDER).__enter__()
        one = Opened(server, tmp_path, **options)
        closing.append((one.engine, server))
        return one

    yield open_it
    for engine, server in closing:
        engine.close()
        server.__exit__(None, None, None)


# --- continuations --------------------------------------------------------------------------------------------------
def test_ids_are_sent_with_every_end_and_come_back_as_ids_and_our_text(opened: Any, chat: ChatFormat) -> None:
    said = chat.encode("58 - 5 = 53")
    one = opened(vllm((*said, chat.stop_ids[0])))
    (done,) = one.generate(requests([(2, 5, 30)], stop_ids=(7,)))
    (body,) = one.asked
    assert body["prompt"] == [2, 5, 30]
    assert body["stop_token_ids"] == sorted({*chat.stop_ids, 7})
    assert (body["ignore_eos"], body["return_token_ids"], body["max_tokens"]) == (True, True, 20)
    assert "messages" not in body
    assert "seed" not in body
    assert done == Completion(
        request_id="0",
        draw=0,
        text=chat.decode(said),
        token_ids=(*said, chat.stop_ids[0]),
        finish="stop",
        prompt_tokens=3,
    )


def test_only_the_ends_of_a_text_end_it_where_that_is_asked(opened: Any, chat: ChatFormat) -> None:
    one = opened(vllm())
    one.generate(requests([(2, 5)], ends="text"))
    assert one.asked[0]["stop_token_ids"] == list(chat.end_ids)


def test_a_stop_string_cuts_the_text_and_the_ids(opened: Any, chat: ChatFormat) -> None:
    said = chat.encode("58 - 5 = 53 = 7")
    one = opened(vllm(said))
    (done,) = one.generate(requests([(2, 5)], stop=("= 53",)))
    assert one.asked[0]["stop"] == ["= 53"]
    assert (done.text, done.finish) == ("58 - 5 ", "stop")
    assert chat.decode(done.token_ids) == "58 - 5 = 53"


def test_an_answer_at_its_limit_says_so(opened: Any, chat: ChatFormat) -> None:
    one = opened(lambda body, number: completion(chat.encode("5 5"), "length", prompt=body["prompt"]))
    (done,) = one.generate(requests([(2, 5)]))
    assert (done.text, done.finish) == ("5 5", "length")


def test_an_answer_never_passes_the_context(opened: Any) -> None:
    one = opened(vllm())
    one.generate(requests([(9,) * (CONTEXT - 3)]))
    assert one.asked[0]["max_tokens"] == 3


def test_draws_have_the_seeds_of_the_other_engines(opened: Any) -> None:
    one = opened(vllm())
    done = one.generate(requests([(2, 5)], n=3, temperature=0.7, top_p=0.9))
    assert [c.draw for c in done] == [0, 1, 2]
    assert [body["seed"] for body in one.asked] == [row_key(0, draw) & (2**63 - 1) for draw in range(3)]
    assert {(body["temperature"], body["top_p"]) for body in one.asked} == {(0.7, 0.9)}


def test_biases_are_sent_by_id_within_the_interfaces_bounds(opened: Any) -> None:
    one = opened(vllm())
    one.generate(requests([(2, 5)], logit_bias={7: 2.5, 8: float("-inf")}))
    assert one.asked[0]["logit_bias"] == {"7": 2.5, "8": -100.0}


def test_likely_tokens_come_by_id_and_by_text_best_first(opened: Any, chat: ChatFormat) -> None:
    """The one that was drawn comes along, also where it is none of the likeliest."""
    a, b, c = chat.encode("5")[-1], chat.encode("6")[-1], chat.encode("7")[-1]
    place = {f"token_id:{a}": -3.0, f"token_id:{b}": -0.5, f"token_id:{c}": -1.0}
    one = opened(vllm((a,), logprobs={"top_logprobs": [place]}))
    (done,) = one.generate(requests([(2, 5)], top_logprobs=2))
    assert (one.asked[0]["logprobs"], one.asked[0]["return_tokens_as_token_ids"]) == (2, True)
    assert list(done.top_logprobs[0].items()) == [(b, -0.5), (c, -1.0)]
    assert list(done.top_texts[0].values()) == [-0.5, -1.0]


def test_a_first_token_with_rules_of_its_own_is_a_call_of_its_own(opened: Any, chat: ChatFormat) -> None:
    first, rest = chat.encode("58")[0], chat.encode("58 - 5")[1:]
    one = opened(lambda b, n: completion([first] if b["max_tokens"] == 1 else rest, "stop", prompt=b["prompt"]))
    (done,) = one.generate(requests([(2, 5)], temperature=0.5, first_temperature=1.5, first_bans=(7,)))
    head, tail = one.asked
    assert (head["temperature"], head["max_tokens"], head["logit_bias"]) == (1.5, 1, {"7": -100.0})
    assert (tail["temperature"], tail["max_tokens"], tail["prompt"]) == (0.5, 19, [2, 5, first])
    assert "logit_bias" not in tail
    assert head["seed"] != tail["seed"]
    assert done.token_ids == (first, *rest)
    assert done.text == chat.decode((first, *rest))
    assert done.prompt_tokens == 2


def test_nothing_follows_a_first_token_that_ends_the_text(opened: Any, chat: ChatFormat) -> None:
    one = opened(vllm((chat.stop_ids[0],)))
    (done,) = one.generate(requests([(2, 5)], first_bans=(7,)))
    assert len(one.asked) == 1
    assert (done.text, done.finish) == ("", "stop")


# --- given ids ------------------------------------------------------------------------------------------------------
def test_given_ids_are_scored_from_where_it_is_asked(opened: Any) -> None:
    one = opened(vllm())
    wanted = [LogprobRequest(id="a", ids=(2, 5, 30, 31), start=2), LogprobRequest(id="b", ids=(2, 5, 30, 31), start=0)]
    found = {
        result.request_id: result
        for result in one.engine.logprobs([*wanted, LogprobRequest(id="c", ids=(2,), start=0)])
    }
    assert len(one.asked) == 1, "equal ids are one call"
    np.testing.assert_allclose(found["a"].values, [-3.0, -3.1])
    np.testing.assert_allclose(found["b"].values, [-0.5, -3.0, -3.1])
    assert found["a"].greedy.tolist() == [False, True], "what has rank 1"
    assert found["a"].values.dtype == np.float32
    assert len(found["c"].values) == 0


def test_the_last_id_may_stand_one_place_beyond_the_context(opened: Any) -> None:
    one = opened(vllm((9,)))
    ids = (2,) * CONTEXT + (9,)
    (found,) = one.engine.logprobs([LogprobRequest(id="a", ids=ids, start=0)])
    assert (len(one.asked[0]["prompt"]), one.asked[0]["logprob_token_ids"]) == (CONTEXT, [9])
    assert len(found.values) == CONTEXT
    assert found.values[-1] == pytest.approx(-0.9)
    assert found.greedy[-1]


def test_ids_that_cannot_be_scored_are_named(opened: Any) -> None:
    one = opened(vllm())
    with pytest.raises(UserError, match=r"request a: it has 514 tokens and the model's context is 512"):
        one.engine.logprobs([LogprobRequest(id="a", ids=(2,) * (CONTEXT + 2), start=0)])


# --- what cannot be asked -------------------------------------------------------------------------------------------
def test_impossible_requests_are_unanswered_with_their_reason_and_the_others_go_on(opened: Any) -> None:
    one = opened(vllm())
    wanted = requests([(9,) * CONTEXT, (), (2, 5), (99_999,)])
    wanted.append(replace(wanted[2], id="4", sampling=Sampling(max_tokens=0)))
    done = one.generate(wanted)
    assert isinstance(done[2], Completion)
    said = [c.reason for c in done if isinstance(c, Unanswered)]
    assert said == [
        "its prompt has 512 tokens and the model's context is 512: no room for an answer",
        "its prompt is empty; begin it with a BOS token or some text",
        "it has the token id 99999, which the model's vocabulary of 445 does not have",
        "it asks for no tokens: max_tokens and n must be at least 1",
    ]
    assert len(one.asked) == 1


def test_what_the_server_finds_too_long_is_unanswered(opened: Any) -> None:
    """As where its context is shorter than it says."""
    said = error(400, "This model's maximum context length is 64 tokens. However, you requested 80 tokens")
    one = opened(lambda b, n: said if len(b["prompt"]) > 64 else vllm()(b, n))
    done = one.generate(requests([(9,) * 70, (2, 5)]))
    assert [type(c) for c in done] == [Unanswered, Completion]


# --- replies --------------------------------------------------------------------------------------------------------
def test_a_reply_is_asked_for_once_and_comes_back_whole(opened: Any, chat: ChatFormat) -> None:
    a = chat.encode("5")[-1]
    one = opened(vllm((a,), logprobs={"top_logprobs": [{f"token_id:{a}": -0.5}]}))
    wanted = requests([(2, 5), (2, 6)], top_logprobs=1, temperature=1.0)
    before, scores = one.generate(wanted), list(one.engine.logprobs([LogprobRequest(id="s", ids=(2, 5, 31), start=1)]))
    count = len(one.asked)
    assert one.generate(wanted) == before
    (again,) = one.engine.logprobs([LogprobRequest(id="s", ids=(2, 5, 31), start=1)])
    np.testing.assert_array_equal(again.values, scores[0].values)
    np.testing.assert_array_equal(again.greedy, scores[0].greedy)
    assert len(one.asked) == count == 3
    one.generate([replace(wanted[0], fresh=True)])
    assert len(one.asked) == count + 1


def test_an_answer_that_was_broken_off_is_asked_for_again(opened: Any) -> None:
    """A server that is being stopped gives what it has so far, with another finish reason."""
    one = opened(lambda b, n: completion([9], "abort", prompt=b["prompt"]) if n == 3 else vllm((30,))(b, n))
    (done,) = one.generate(requests([(2, 5)]))
    assert done.token_ids == (30,)
    assert len(one.asked) == 2


def test_a_server_that_dies_keeps_what_it_gave(opened: Any, tmp_path: Path) -> None:
    down = error(503, "dead", retry_after="3600")  # beyond the deadline, so that it is given up at once
    dying = opened(lambda b, n: vllm((30,))(b, n) if n <= 12 else down, concurrency=1)
    wanted = requests([(2, n) for n in range(5, 25)])
    got = []
    with pytest.raises(StageFailed, match="Finished replies are kept"):
        got += dying.engine.generate(wanted)
    assert len(got) == 10
    with ChatServer(vllm((30,)), context=CONTEXT + 1, tokenizer=FOLDER) as server:
        other = OpenAIEngine(spec(server.url), Home(tmp_path))
        done = list(other.generate(wanted))
        other.close()
    assert len(done) == 20
    assert len(server.asked) == 2 + 10, "two to look, and what was missing"


# --- what a server offers -------------------------------------------------------------------------------------------
def test_a_server_is_asked_once_what_it_offers(tmp_path: Path) -> None:
    with ChatServer(vllm(), context=CONTEXT + 1, tokenizer=FOLDER) as server:
        for _ in range(2):
            engine = OpenAIEngine(spec(server.url), Home(tmp_path))
            assert engine.context == CONTEXT
            assert engine.offer.logprobs
            engine.close()
    assert len(server.asked) == 2
    assert all(body["max_tokens"] == 1 for body in server.asked)


def test_a_server_that_was_started_again_with_another_length_is_asked_anew(tmp_path: Path) -> None:
    with ChatServer(vllm(), context=CONTEXT + 1, tokenizer=FOLDER) as server:
        url, port = server.url, server.port
        engine = OpenAIEngine(spec(url), Home(tmp_path))
        assert engine.context == CONTEXT
        engine.close()
    with ChatServer(vllm(), context=101, tokenizer=FOLDER, port=port) as server:
        for _ in range(2):
            engine = OpenAIEngine(spec(url), Home(tmp_path))
            assert engine.context == 100
            (refused,) = engine.generate(requests([(2,) * 100]))
            assert isinstance(refused, Unanswered)
            assert "its prompt has 100 tokens and the model's context is 100" in refused.reason
            engine.close()
        assert len(server.asked) == 2, "the two small calls, once"
    silent = OpenAIEngine(spec(url), Home(tmp_path))
    assert silent.context == 100, "nobody is there: as it was"
    silent.close()


def without(*fields: str) -> Behaviour:
    """As vLLM's server, but some fields of the reply are not there."""

    def behave(body: Mapping[str, Any], number: int) -> Sent:
        document = json.loads(vllm()(body, number).body)
        for name in fields:
            document["choices"][0].pop(name, None)
        return Sent(json.dumps(document))

    return behave


def deaf(body: Mapping[str, Any], number: int) -> Sent:
    return completion([1], prompt=[1, 2])


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (without("token_ids"), "its completions come without ids"),
        (lambda b, n: error(404, "no such route"), "/completions answers with status 404 .*no such route"),
        (lambda b, n: error(400, "prompt must be a string"), "status 400 .*prompt must be a string"),
        (lambda b, n: Sent("<html>"), "something that is no JSON"),
        (deaf, "it read other ids than it was sent"),
    ],
)
def test_a_server_without_token_ids_is_refused_with_what_it_said(tmp_path: Path, behave: Behaviour, said: str) -> None:
    with ChatServer(behave) as server:
        engine = OpenAIEngine(spec(server.url), Home(tmp_path))
        with pytest.raises(UserError, match=rf"takes no token ids: .*{said}.*without it, the server answers conver"):
            list(engine.generate(requests([(2, 5)])))
        engine.close()


# --- whose tokenizer ------------------------------------------------------------------------------------------------
@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A tokenizer of the same vocabulary size in which ids mean other words."""
    document = json.loads((FOLDER / "tokenizer.json").read_text())
    words = document["model"]["vocab"]
    plain = [word for word in words if not word.startswith("<")]
    document["model"]["vocab"] = words | {
        word: words[next_] for word, next_ in zip(plain, [*plain[1:], plain[0]], strict=True)
    }
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


def silent_on_texts(body: Mapping[str, Any], number: int) -> Sent:
    """Tells the ids of a prompt only where it was sent ids."""
    return (without("prompt_token_ids") if body["prompt"] != [5, 6, 7] else vllm())(body, number)


def ids_only(body: Mapping[str, Any], number: int) -> Sent:
    """As a server that was started without its tokenizer."""
    return error(400, "no tokenizer") if isinstance(body["prompt"], str) else vllm()(body, number)


def test_a_server_with_the_tokenizer_of_the_folder_passes(home: Path) -> None:
    with ChatServer(vllm(), tokenizer=FOLDER) as server:
        model = spec(server.url)
        ready(model)
        assert "logprobs" in capabilities(model)
    text, ids = server.asked
    assert isinstance(text["prompt"], str)
    assert text["add_special_tokens"] is False
    assert ids["prompt"] == [5, 6, 7]


def test_a_server_with_another_tokenizer_is_refused_before_a_run_and_by_the_engine(home: Path, other: Path) -> None:
    with ChatServer(vllm(), tokenizer=other) as server:
        model = spec(server.url)
        with pytest.raises(UserError) as caught:
            ready(model)
        engine = open_engine(model, home=Home(home))
        with pytest.raises(UserError, match="read it as the token ids"):
            list(engine.generate(requests([(2, 5)])))
        engine.close()
    said = str(caught.value)
    assert len(server.asked) == 2
    assert server.url in said
    assert f"was sent the text {server.asked[0]['prompt']!r} and read it as the token ids [" in said
    assert f"the tokenizer in {FOLDER} gives [" in said
    assert "let `tokenizer:` name the folder of the model that runs there as judge-1" in said
    assert "\n" not in said


def test_a_server_without_prompt_logprobs_is_refused_for_another_tokenizer_too(home: Path, other: Path) -> None:
    def behave(body: Mapping[str, Any], number: int) -> Sent:
        return error(400, "no prompt_logprobs") if "prompt_logprobs" in body else vllm()(body, number)

    with ChatServer(behave, tokenizer=FOLDER) as server:
        ready(spec(server.url))
        assert "logprobs" not in capabilities(spec(server.url))
    with ChatServer(behave, tokenizer=other) as server, pytest.raises(UserError, match="read it as the token ids"):
        ready(spec(server.url))


def test_another_way_to_cut_the_same_text_is_no_other_tokenizer(home: Path) -> None:
    """Here a BOS that was not asked for."""
    with ChatServer(vllm(), tokenizer=FOLDER, bos=2) as server:
        ready(spec(server.url))
        assert "logprobs" in capabilities(spec(server.url))


@pytest.mark.parametrize("behave", [silent_on_texts, ids_only])
def test_a_server_that_tells_no_ids_of_texts_is_taken_as_it_is(home: Path, other: Path, behave: Behaviour) -> None:
    with ChatServer(behave, tokenizer=None if behave is ids_only else other) as server:
        ready(spec(server.url))
        assert "logprobs" in capabilities(spec(server.url))


def test_a_folder_whose_tokenizer_cannot_be_read_is_named(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer.json").write_text("{}")
    refused = pytest.raises(UserError, match=r"broken/tokenizer.json is no readable tokenizer")
    with ChatServer(vllm(), tokenizer=FOLDER) as server, refused:
        ready(replace(spec(server.url), path=broken))


def test_a_server_without_prompt_logprobs_generates_and_is_refused_for_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    with ChatServer(without("prompt_logprobs")) as server:
        model = spec(server.url)
        assert "logprobs" in capabilities(model), "taken to be as vLLM's until it was asked"
        ready(model)
        assert capabilities(model) == {"generate", "continue", "turns"}
        engine = open_engine(model, home=Home(tmp_path))
        assert len(list(engine.generate(requests([(2, 5)])))) == 1
        with pytest.raises(UserError, match=r"cannot score given texts: its completions come without those of the pro"):
            engine.logprobs([LogprobRequest(id="a", ids=(2, 5), start=0)])
        engine.close()


def test_what_a_server_lacked_is_asked_again_by_a_later_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    with ChatServer(without("token_ids"), context=CONTEXT + 1) as server:
        model = spec(server.url)
        with pytest.raises(UserError, match="takes no token ids"):
            ready(model)
        server.behave = vllm()
        with pytest.raises(UserError, match="takes no token ids"):
            ready(model)  # the same command: not asked for every stage
        (file,) = (tmp_path / "served").glob("*.json")
        os.utime(file, (0, 0))
        ready(model)
        assert "logprobs" in capabilities(model)
        count = len(server.asked)
        os.utime(file, (0, 0))
        ready(model)
    assert len(server.asked) == count, "what it has is not asked again"


def test_a_look_at_a_server_leaves_no_headers_in_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("SECRET_OF_TEST", "sk-very-secret-key")
    for name in ("openai", "httpx", "httpcore"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    with caplog.at_level(logging.DEBUG), ChatServer(vllm(), context=CONTEXT + 1) as server:
        ready(spec(server.url, api_key_env="SECRET_OF_TEST"))
        assert server.keys[0].endswith("sk-very-secret-key")
    assert "sk-very-secret-key" not in caplog.text


def test_nothing_follows_a_first_token_that_never_came(opened: Any) -> None:
    one = opened(lambda b, n: completion([], "stop", prompt=b["prompt"]))
    (done,) = one.generate(requests([(2, 5)], first_bans=(7,)))
    assert (done.text, done.token_ids, len(one.asked)) == ("", (), 1)


def test_a_server_that_is_not_up_yet_is_no_reason_to_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    model = spec("http://127.0.0.1:9/v1")
    ready(model)
    assert "logprobs" in capabilities(model)
    engine = open_engine(model, home=Home(tmp_path))
    with pytest.raises(UserError, match="could not be asked what it offers .*start it before a run"):
        list(engine.generate(requests([(2, 5)])))


def test_fields_that_the_reply_is_read_by_are_not_for_body(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`body:` cannot hold ignore_eos, which loopbench sets itself"):
        open_engine(spec("http://127.0.0.1:9/v1", body={"ignore_eos": False}), home=Home(tmp_path))
