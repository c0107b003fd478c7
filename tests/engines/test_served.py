"""Served models against a real server that misbehaves: what is tried again, kept, said and paid."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_server import Behaviour, ChatServer, Sent, answer, echo, error

from harness.engines import capabilities, check, open_engine, ready
from harness.engines.base import Completion, GenerateRequest, LogprobRequest, ModelSpec, Sampling, Unanswered
from harness.engines.openai import OpenAIEngine
from harness.engines.served.health import health
from harness.errors import LimitReached, LoopbenchError, StageFailed, UserError
from harness.store.home import Home
from harness.store.spent import Ledger

KEY = "sk-live-0123456789abcdefghij"


def spec(url: str, **options: Any) -> ModelSpec:
    fast = {"url": url, "model": "judge-1", "deadline": 60.0, "timeout": 20.0}
    return ModelSpec(name="judge", engine="openai", revision="r1", options=fast | options)


def asked(count: int, text: str = "question", **sampling: Any) -> list[GenerateRequest]:
    return [
        GenerateRequest(
            id=str(number),
            prompt=(),
            messages=({"role": "user", "content": f"{text} {number}"},),
            sampling=Sampling(**{"max_tokens": 20, **sampling}),
            seed=number,
        )
        for number in range(count)
    ]


def ask(
    server: ChatServer | str, home: Path, requests: list[GenerateRequest], **options: Any
) -> list[Completion | Unanswered]:
    """The answers of an engine opened for these requests alone, in order."""
    url = server if isinstance(server, str) else server.url
    engine = OpenAIEngine(spec(url, **options), Home(home))
    try:
        return sorted(engine.generate(requests), key=lambda c: (int(c.request_id), getattr(c, "draw", 0)))
    finally:
        engine.close()


def texts(done: list[Completion | Unanswered]) -> list[str]:
    return [one.text if isinstance(one, Completion) else f"- {one.reason}" for one in done]


def failing_first(times: int, how: Sent) -> Behaviour:
    return lambda body, number: how if number <= times else echo(body, number)


# --- what works -----------------------------------------------------------------------------------------------------
def test_a_conversation_is_asked_and_answered(tmp_path: Path) -> None:
    with ChatServer() as server:
        (done,) = ask(server, tmp_path, asked(1, temperature=0.0, stop=("END",)))
    assert done == Completion(
        request_id="0",
        draw=0,
        text="to question 0",
        token_ids=(),
        finish="stop",
        prompt_tokens=10,
        generated_tokens=5,
    )
    assert done.new_tokens == 5
    assert server.asked == [
        {
            "model": "judge-1",
            "messages": [{"role": "user", "content": "question 0"}],
            "temperature": 0.0,
            "max_tokens": 20,
            "stop": ["END"],
        }
    ]


def test_calls_run_side_by_side_up_to_the_limit(tmp_path: Path) -> None:
    with ChatServer(lambda body, number: replace(echo(body, number), delay=0.05)) as server:
        done = ask(server, tmp_path, asked(40), concurrency=8)
    assert texts(done) == [f"to question {number}" for number in range(40)]
    assert server.most_at_once == 8


def test_two_engines_of_a_home_share_the_limit(tmp_path: Path) -> None:
    """Two open engines hold their places by file locks, as two processes do."""
    from concurrent.futures import ThreadPoolExecutor

    with (
        ChatServer(lambda body, number: replace(echo(body, number), delay=0.05)) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        for future in [pool.submit(ask, server, tmp_path, asked(12, name), concurrency=4) for name in "ab"]:
            assert len(future.result()) == 12
    assert server.most_at_once == 4


def test_sampled_draws_are_calls_of_their_own_and_greedy_ones_are_one(tmp_path: Path) -> None:
    with ChatServer() as server:
        done = ask(server, tmp_path, asked(1, n=3, temperature=1.0))
        assert [one.draw for one in done if isinstance(one, Completion)] == [0, 1, 2]
        assert len({body["seed"] for body in server.asked}) == 3
        assert len(ask(server, tmp_path, asked(1, n=3, temperature=0.0))) == 3
    assert len(server.asked) == 4
    assert "seed" not in server.asked[-1]


def test_fields_of_the_body_can_be_added_and_taken_out(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "body": {"seed": None, "reasoning_effort": "low"},
        "length_field": "max_completion_tokens",
    }
    with ChatServer() as server:
        ask(server, tmp_path, asked(1, temperature=1.0, n=2), **options)
    assert server.asked[0] == server.asked[1], "two draws of one request, told apart by the cache alone"
    assert server.asked[0].keys() == {"model", "messages", "temperature", "max_completion_tokens", "reasoning_effort"}


def test_draws_at_the_temperature_that_the_body_sets_are_calls_of_their_own(tmp_path: Path) -> None:
    """A suite asks at temperature 0, but `body:` makes the server sample: one reply must not stand for all draws."""
    with ChatServer(lambda body, number: answer(f"reply {number}")) as server:
        done = ask(server, tmp_path, asked(1, n=3, temperature=0.0), body={"temperature": 0.7})
        assert len(set(texts(done))) == 3
        assert {body["temperature"] for body in server.asked} == {0.7}
        assert len({body["seed"] for body in server.asked}) == 3
    with ChatServer() as server:
        ask(server, tmp_path, asked(1, "greedy", n=3, temperature=1.0), body={"temperature": 0})
        assert len(server.asked) == 1, "the server is told to be greedy: three draws are one call"
        ask(server, tmp_path, asked(1, "left", n=3, temperature=0.0), body={"temperature": None})
        assert len(server.asked) == 4, "what the server does without a temperature is its own: each draw is asked for"


# --- the cache of replies -------------------------------------------------------------------------------------------
def test_a_reply_is_bought_once(tmp_path: Path) -> None:
    with ChatServer() as server:
        first = ask(server, tmp_path, asked(3))
        assert ask(server, tmp_path, asked(4))[:3] == first
        assert len(server.asked) == 4
        ask(server, tmp_path, [replace(asked(1)[0], fresh=True)])
        assert len(server.asked) == 5, "a fresh request is asked whatever is known"
    assert ask("http://127.0.0.1:9/v1", tmp_path, asked(3)) == first, "no server is needed for what is known"


def test_equal_requests_are_one_call(tmp_path: Path) -> None:
    twins = [replace(request, messages=asked(1)[0].messages) for request in asked(5)]
    with ChatServer() as server:
        assert texts(ask(server, tmp_path, twins)) == ["to question 0"] * 5
    assert len(server.asked) == 1


@pytest.mark.parametrize("damage", [b"", b'{"reply": {}}', b'{"reply": {"text": "forged"}, "sha256": "0"}'])
def test_a_damaged_reply_counts_as_absent(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with ChatServer() as server:
        before = ask(server, tmp_path, asked(1))
        (path,) = (tmp_path / "replies").rglob("*.json")
        path.write_bytes(damage)
        assert ask(server, tmp_path, asked(1)) == before
        assert len(server.asked) == 2
    assert "is damaged: the call is made again" in caplog.text


def test_what_cannot_be_kept_is_not_bought(tmp_path: Path) -> None:
    (tmp_path / "replies").write_text("a file where the folder should be")
    with ChatServer() as server:
        with pytest.raises(UserError, match="replies/.* could not be made"):
            ask(server, tmp_path, asked(50), concurrency=2)
        assert len(server.asked) <= 4


# --- failures that pass ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "how",
    [
        error(429, "slow down", retry_after="0"),
        error(500, "oops"),
        error(503, "starting"),
        error(408, "too slow"),
        Sent("<html>bad gateway</html>", 502, {"content-type": "text/html"}),
        Sent(answer("cut").body[:40]),
        replace(answer("cut"), cut=30),
        Sent('{"choices": []}'),
        Sent('{"error": {"message": "overloaded"}}'),
        Sent("null"),
        replace(answer("late"), delay=4.5),
    ],
    ids="429 500 503 408 502-html cut-json cut-transfer no-choices error-in-200 null late".split(),
)
def test_what_may_pass_is_tried_again(tmp_path: Path, how: Sent) -> None:
    with ChatServer(failing_first(2, how)) as server:
        assert texts(ask(server, tmp_path, asked(1), timeout=3.0)) == ["to question 0"]
    assert len(server.asked) == 3


def test_retry_after_is_kept_by_all_calls(tmp_path: Path) -> None:
    times: list[float] = []

    def behave(body: Mapping[str, Any], number: int) -> Sent:
        times.append(time.monotonic())
        return error(429, "slow down", retry_after="1") if number == 1 else echo(body, number)

    with ChatServer(behave) as server:
        done = ask(server, tmp_path, asked(4), concurrency=1, deadline=10.0)
    assert len(done) == 4
    assert times[1] - times[0] >= 0.95


def test_a_pause_beyond_the_deadline_is_not_waited_for(tmp_path: Path) -> None:
    begin = time.monotonic()
    with (
        ChatServer(lambda body, number: error(429, "tomorrow", retry_after="3600")) as server,
        pytest.raises(StageFailed, match=r"answered nothing for 90 s; the last failure: status 429: tomorrow"),
    ):
        ask(server, tmp_path, asked(3), concurrency=1, deadline=90.0)
    assert time.monotonic() - begin < 60
    assert len(server.asked) == 1


# --- failures that stop ---------------------------------------------------------------------------------------------
def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="judge-1 at .* answered nothing for 1 s; the last failure: no connection"):
        ask("http://127.0.0.1:9/v1", tmp_path, asked(3), deadline=1.0)


def test_a_server_that_never_answers_in_time(tmp_path: Path) -> None:
    begin = time.monotonic()
    with (
        ChatServer(lambda body, number: replace(answer("late"), delay=30)) as server,
        pytest.raises(StageFailed, match=r"answered nothing for 1 s; the last failure: no answer within 0\.\d+ s"),
    ):
        ask(server, tmp_path, asked(50), deadline=1.0, timeout=0.4, concurrency=2)
    assert time.monotonic() - begin < 20
    assert len(server.asked) <= 8, "the first calls that nobody answered stand for all"


def test_one_poisoned_request_fails_alone_and_the_rest_is_kept(tmp_path: Path) -> None:
    def behave(body: Mapping[str, Any], number: int) -> Sent:
        time.sleep(0.02)
        return error(500, "boom") if body["messages"][0]["content"] == "question 3" else echo(body, number)

    options: dict[str, Any] = {"deadline": 3.0, "concurrency": 2}
    with ChatServer(behave) as server:
        with pytest.raises(StageFailed, match=r"1 of 60 calls .* had no answer within 3 s, though others had"):
            ask(server, tmp_path, asked(60), **options)
        server.behave, calls = echo, len(server.asked)
        ask(server, tmp_path, asked(60), **options)
        assert len(server.asked) == calls + 1, "only the poisoned one is asked again"


def test_a_web_page_is_no_chat_server(tmp_path: Path) -> None:
    page = Sent("<html>hello</html>", headers={"content-type": "text/html"})
    with (
        ChatServer(lambda body, number: page) as server,
        pytest.raises(StageFailed, match=r"4 times it answered no JSON .*It usually ends in /v1"),
    ):
        ask(server, tmp_path, asked(20), concurrency=1, deadline=60.0)
    assert len(server.asked) == 4


def test_one_request_with_malformed_answers_fails_alone(tmp_path: Path) -> None:
    def behave(body: Mapping[str, Any], number: int) -> Sent:
        return Sent("<html>") if body["messages"][0]["content"] == "question 0" else echo(body, number)

    with ChatServer(behave) as server:
        with pytest.raises(StageFailed, match=r"1 of 30 calls .*though others had; the first: it answered no JSON"):
            ask(server, tmp_path, asked(30), concurrency=2)
        assert len(server.asked) == 29 + 4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            error(401, f"Incorrect API key provided: {KEY}"),
            r"refuses us \(status 401\): the key in JUDGE_KEY is wrong, expired",
        ),
        (error(403, "no"), r"refuses us \(status 403\)"),
        (error(402, "pay"), r"wants to be paid first \(status 402\)"),
        (error(404, "The model does not exist"), "has no model 'judge-1'; it serves: other, another"),
        (error(429, "You exceeded your quota", "insufficient_quota"), "the account's quota is used up"),
        (
            error(400, f"Unknown field: top_k, key {KEY}"),
            r"cannot be asked so \(status 400\): Unknown field: top_k, key \*\*\*",
        ),
    ],
    ids="401 403 402 404 quota 400".split(),
)
def test_what_cannot_pass_is_one_sentence_and_no_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Sent, said: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with ChatServer(lambda body, number: how, models=("other", "another")) as server:
        with pytest.raises(UserError, match=said) as caught:
            ask(server, tmp_path, asked(9), api_key_env="JUDGE_KEY", concurrency=1)
        assert len(server.asked) == 1
    assert "Finished replies are kept: the same command asks only for the rest" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_url_without_a_chat_server(tmp_path: Path) -> None:
    with ChatServer(lambda body, number: error(404, "not found")) as server:
        server.models = ()
        url = server.url.removesuffix("/v1") + "/v2"
        with pytest.raises(UserError, match="it serves: none"):
            ask(url, tmp_path, asked(1))


def test_a_path_that_the_server_of_the_model_does_not_have(tmp_path: Path) -> None:
    said = r"serves 'judge-1' but has nothing at /chat/completions \(status 404\)"
    with (
        ChatServer(lambda body, number: error(404, "not found"), models=("judge-1",)) as server,
        pytest.raises(UserError, match=said),
    ):
        ask(server, tmp_path, asked(1))


def test_a_key_that_expires_in_the_middle_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)

    def behave(body: Mapping[str, Any], number: int) -> Sent:
        return error(401, "expired") if number > 20 else echo(body, number)

    with ChatServer(behave) as server:
        with pytest.raises(UserError, match="expired"):
            ask(server, tmp_path, asked(50), api_key_env="JUDGE_KEY", concurrency=4)
        tried = len(server.asked)
        assert 21 <= tried <= 24
        server.behave = echo
        monkeypatch.setenv("JUDGE_KEY", "another-key-9876543210")
        assert len(ask(server, tmp_path, asked(50), api_key_env="JUDGE_KEY", concurrency=4)) == 50
        assert len(server.asked) == tried + 30, "a reply that was there has been asked for again"
    assert server.keys[0] == f"Bearer {KEY}"
    assert server.keys[-1] == "Bearer another-key-9876543210"


# --- odd answers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sent", "text", "finish"),
    [
        (answer(""), "", "stop"),
        (answer(None), "", "stop"),
        (answer("cut off", "length"), "cut off", "length"),
        (answer("done", None), "done", "stop"),
        (answer("done", "eos"), "done", "stop"),
        (answer([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]), "in parts", "stop"),
        (answer("x" * 100_000), "x" * 100_000, "stop"),
        (answer("smile \U0001f600 \ud83d"), "smile \U0001f600 \ufffd", "stop"),
    ],
    ids="empty null length no-reason other-reason parts 100k half-a-pair".split(),
)
def test_odd_answers_are_answers(tmp_path: Path, sent: Sent, text: str, finish: str) -> None:
    with ChatServer(lambda body, number: sent) as server:
        for _ in range(2):  # the second from the cache
            (done,) = ask(server, tmp_path, asked(1))
            assert isinstance(done, Completion)
            assert (done.text, done.finish) == (text, finish)
    assert len(server.asked) == 1


def test_what_a_server_will_not_answer_is_that_requests_own(tmp_path: Path) -> None:
    refusal = json.loads(answer(None).body)
    refusal["choices"][0]["message"]["refusal"] = "I cannot."
    sent = {
        "question 0": answer("half an ans", "content_filter"),
        "question 1": error(400, "This model's maximum context length is 4096 tokens", "context_length_exceeded"),
        "question 2": error(400, "The response was filtered due to the content management policy"),
        "question 3": error(413, "Request entity too large"),
        "question 4": Sent(json.dumps(refusal)),
    }
    with ChatServer(lambda body, number: sent.get(body["messages"][0]["content"]) or echo(body, number)) as server:
        done = texts(ask(server, tmp_path, asked(6)))
    assert done[0] == "- the server withheld the answer (content_filter)"
    assert done[1].startswith("- the server refused it (status 400): This model's maximum context length")
    assert done[2].startswith("- the server refused it (status 400)")
    assert done[3].startswith("- the server refused it (status 413)")
    assert done[4] == "- the server withheld the answer (content_filter)"
    assert done[5] == "to question 5"


def test_a_request_of_100k_characters(tmp_path: Path) -> None:
    with ChatServer() as server:
        ask(server, tmp_path, asked(2, "long " * 20_000))
    assert len(server.asked[0]["messages"][0]["content"]) > 100_000


def test_likely_tokens_come_by_text_and_only_as_numbers(tmp_path: Path) -> None:
    half = math.log(0.5)
    first = [
        {"token": "A", "logprob": math.log(0.25)},
        {"token": "B", "logprob": half},
        {"token": "A", "logprob": math.log(0.125)},
    ]
    second = [
        {"token": "m", "logprob": math.nan},
        {"token": "M", "logprob": -math.inf},
        {"token": "k", "logprob": None},
    ]
    with ChatServer(lambda body, number: answer("A", top=[first, second])) as server:
        for _ in range(2):
            (done,) = ask(server, tmp_path, asked(1, top_logprobs=3))
            assert isinstance(done, Completion)
            assert [list(place) for place in done.top_texts] == [["B", "A"], []]
            assert done.top_texts[0]["A"] == pytest.approx(math.log(0.375))
    assert server.asked[0]["logprobs"] is True
    assert server.asked[0]["top_logprobs"] == 3


def test_a_server_that_counts_no_tokens_gets_estimates(tmp_path: Path) -> None:
    document = json.loads(answer("twelve chars").body)
    del document["usage"]
    with ChatServer(lambda body, number: Sent(json.dumps(document))) as server:
        (done,) = ask(server, tmp_path, asked(1))
    assert isinstance(done, Completion)
    assert done.new_tokens == 3
    assert 5 <= done.prompt_tokens <= 20


# --- money ----------------------------------------------------------------------------------------------------------
PRICES = {"prompt": 1000.0, "completion": 2000.0}  # a reply of 10 + 5 tokens costs 2 cents


def ledger(home: Path, name: str = "night") -> Ledger:
    return Ledger(Home(home).spent_file(name))


def test_what_is_bought_is_booked_once(tmp_path: Path) -> None:
    with ChatServer() as server:
        for _ in range(2):
            done = ask(server, tmp_path, asked(10), prices=PRICES, experiment="night")
            assert [one.usd for one in done if isinstance(one, Completion)] == pytest.approx([0.02] * 10)
    spent = ledger(tmp_path).spent()
    assert (spent.calls, spent.prompt_tokens, spent.completion_tokens) == (10, 100, 50)
    assert spent.usd == pytest.approx(0.20)


def test_the_cap_holds_before_the_call(tmp_path: Path) -> None:
    """A call may cost up to 12 cents here (its bytes, and 20 new tokens), so the cap stops when less is left."""
    with ChatServer() as server:
        with pytest.raises(LimitReached, match=r"limits\.usd is 0\.5, 0\.\d\d of it is spent .* next call may cost"):
            ask(server, tmp_path, asked(100), prices=PRICES, experiment="night", usd_limit=0.5)
        bought = len(server.asked)
        spent = ledger(tmp_path).spent()
        assert spent.usd == pytest.approx(0.02 * bought)
        assert 0.5 - 0.12 < spent.usd <= 0.5
        with pytest.raises(LimitReached):
            ask(server, tmp_path, asked(100), prices=PRICES, experiment="night", usd_limit=0.5)
        assert len(server.asked) == bought, "nothing is asked once the money is spent"
    assert len(list((tmp_path / "replies").rglob("*.json"))) == bought, "what is paid for is still there"


def test_a_call_that_broke_off_counts_at_its_highest_price(tmp_path: Path) -> None:
    with ChatServer(failing_first(1, replace(answer("cut"), cut=30))) as server:
        ask(server, tmp_path, asked(1), prices=PRICES, experiment="night", usd_limit=10.0)
    spent = ledger(tmp_path).spent()
    assert spent.unsure_usd > 0.02
    assert spent.usd == pytest.approx(0.02 + spent.unsure_usd)


def test_an_error_costs_nothing(tmp_path: Path) -> None:
    with ChatServer(failing_first(1, error(500, "boom"))) as server:
        ask(server, tmp_path, asked(1), prices=PRICES, experiment="night", usd_limit=10.0)
    assert ledger(tmp_path).spent().usd == pytest.approx(0.02)


def test_calls_that_wait_for_money_end_when_nothing_more_can_be_asked(tmp_path: Path) -> None:
    """While a slow call holds the rest of the money, another learns that the key is wrong."""

    def behave(body: Mapping[str, Any], number: int) -> Sent:
        short = len(body["messages"][0]["content"]) < 100
        return replace(error(401, "no"), delay=0.3) if short else replace(echo(body, number), delay=1.5)

    requests = asked(1) + asked(8, "long" * 100)[1:]
    with ChatServer(behave) as server:  # up to 12 cents for the short call and 52 for a long one: one of each fits
        with pytest.raises(UserError, match="refuses us"):
            ask(server, tmp_path, requests, prices=PRICES, experiment="night", usd_limit=0.65, concurrency=8)
        assert len(server.asked) == 2
    assert ledger(tmp_path).spent().usd == pytest.approx(0.02), "the slow call was let finish, and is booked"


# --- keys -----------------------------------------------------------------------------------------------------------
def leaking(body: Mapping[str, Any], number: int) -> Sent:
    """Shows the key wherever a server could: errors of all kinds, headers, and the answer itself."""
    said = f"you sent Bearer {KEY}"
    return [
        error(500, said, x_echo=KEY),
        error(400, f"context length exceeded, {said}"),
        Sent(said, 502, {"content-type": "text/plain"}),
        Sent(f'{{"error": "{said}"}}'),
        Sent(said),
        answer(said),
        Sent("<html>" + "." * 44 + KEY),
    ][number % 7]


@pytest.mark.parametrize("last", [echo, lambda body, number: error(401, f"wrong key {KEY}"), leaking])
def test_a_key_never_leaves_the_process_but_to_its_server(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    last: Behaviour,
) -> None:
    import traceback

    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    said = []
    with ChatServer(lambda body, number: (leaking if number < 20 else last)(body, number)) as server:
        for _ in range(3):
            try:
                options: dict[str, Any] = {"api_key_env": "JUDGE_KEY", "deadline": 1.0, "concurrency": 3}
                said += texts(ask(server, tmp_path, asked(12), prices=PRICES, usd_limit=9.0, **options))
            except LoopbenchError as failure:
                said += [str(failure), *traceback.format_exception(failure)]
    assert f"Bearer {KEY}" in server.keys
    shown = capfd.readouterr()
    for text in [*said, caplog.text, shown.out, shown.err]:
        assert KEY not in text
        assert KEY[:8] not in text, "not even a part"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


# --- refused before anything is asked ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"logit_bias": {3: 1.0}}, "cannot be asked with logit_bias"),
        ({"stop_ids": (3,)}, "cannot be asked with stop_ids"),
        ({"first_temperature": 1.0, "first_bans": (2,)}, "cannot be asked with first_temperature, first_bans"),
    ],
)
def test_what_needs_token_ids_is_refused(tmp_path: Path, sampling: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ask("http://127.0.0.1:9/v1", tmp_path, asked(1, **sampling))


def test_a_served_model_scores_and_embeds_nothing(tmp_path: Path) -> None:
    engine = open_engine(spec("http://127.0.0.1:9/v1"), home=Home(tmp_path))
    assert capabilities(engine.spec) == {"generate"}
    assert engine.chat is None
    with pytest.raises(UserError, match="cannot score given texts"):
        engine.logprobs([LogprobRequest(id="0", ids=(1, 2), start=1)])
    with pytest.raises(UserError, match="cannot embed texts"):
        engine.embed([(1, 2)])
    with pytest.raises(UserError, match="cannot continue raw text"):
        list(engine.generate([GenerateRequest(id="0", prompt=(1, 2), sampling=Sampling())]))
    engine.close()


def test_settings_are_checked_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    check(spec("http://127.0.0.1:9/v1"))
    with pytest.raises(UserError, match="judge needs `model:`"):
        check(spec("http://127.0.0.1:9/v1", model=None))
    with pytest.raises(UserError, match="has no option 'temprature'"):
        check(spec("http://127.0.0.1:9/v1", temprature=1))
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    check(spec("http://127.0.0.1:9/v1", api_key_env="JUDGE_KEY"))
    with pytest.raises(UserError, match="export JUDGE_KEY"):
        ready(spec("http://127.0.0.1:9/v1", api_key_env="JUDGE_KEY"))
    monkeypatch.setenv("JUDGE_KEY", KEY)
    ready(spec("http://127.0.0.1:9/v1", api_key_env="JUDGE_KEY"))


@pytest.mark.parametrize("key", [f"{KEY}\nsecond line", f"{KEY} # mine", f"{KEY}\xe9"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(UserError, match="the key in JUDGE_KEY cannot be sent") as caught:
        ask("http://127.0.0.1:9/v1", tmp_path, asked(1), api_key_env="JUDGE_KEY")
    assert KEY[:8] not in str(caught.value)
    assert "cannot be a key" in health("http://127.0.0.1:9/v1", None, "JUDGE_KEY").text


def test_leaving_early_ends_the_calls(tmp_path: Path) -> None:
    with ChatServer(lambda body, number: replace(echo(body, number), delay=0.01)) as server:
        engine = OpenAIEngine(spec(server.url, concurrency=2), Home(tmp_path))
        for done in engine.generate(asked(100)):
            assert isinstance(done, Completion)
            break
        time.sleep(0.1)
        engine.close()
        assert len(server.asked) < 20
