"""A served model behind the desk: conversations go out as they are, what it refuses is one row's failure."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Sent, answer, echo, error

from harness.blocks.kinds import Ask, Context, Reply, Request, Sampling
from harness.engines.base import ModelSpec
from harness.engines.openai import OpenAIEngine
from harness.errors import LimitReached, UserError
from harness.loop.drive import Desk, Failed, drive
from harness.store.home import Home

Asking = Generator[Sequence[Request], Sequence[Reply], Any]


def one(**ask: Any) -> Asking:
    ((completion,),) = yield [Ask(model="judge", sampling=Sampling(max_tokens=8), **ask)]
    return completion.text


def said(text: str) -> Asking:
    return one(messages=({"role": "user", "content": text},))


def desk(server: ChatServer, home: Path, **options: Any) -> Desk:
    named = {"url": server.url, "model": "judge-1", "prices": {"prompt": 1000, "completion": 1000}}
    engine = OpenAIEngine(ModelSpec(name="judge", engine="openai", options=named | options), Home(home))
    return Desk(lambda role: engine, Context())


def behave(body: Mapping[str, Any], number: int) -> Sent:
    text = body["messages"][-1]["content"]
    if text == "long":
        return error(400, "maximum context length is 10 tokens", "context_length_exceeded")
    return answer(None, "content_filter") if text == "rude" else echo(body, number)


def test_a_refused_conversation_is_its_rows_failure_and_nobody_elses(tmp_path: Path) -> None:
    with ChatServer(behave) as server:
        at = desk(server, tmp_path)
        done = drive({text: said(text) for text in ("hello", "long", "rude", "again")}, at)
        at.engine("judge").close()
    assert (done["hello"], done["again"]) == ("to hello", "to again")
    for row, why in (("long", "the server refused it (status 400)"), ("rude", "the server withheld the answer")):
        assert isinstance(done[row], Failed)
        assert why in done[row].reason
        assert done[row].expected, "no other try could help, so the stage does not fail for it"
    assert at.cost == {"prompt_tokens": 20, "generated_tokens": 10, "micro_usd": 30_000}


def test_what_needs_token_ids_fails_as_a_sentence(tmp_path: Path) -> None:
    with ChatServer() as server:
        at = desk(server, tmp_path)
        done = drive({"raw": one(text="Once upon"), "user": one(speaker="user"), "chat": said("hello")}, at)
        at.engine("judge").close()
    assert done["chat"] == "to hello"
    assert "is a served one: it answers conversations" in done["raw"].reason
    assert "write a user's turn" in done["user"].reason


@pytest.mark.parametrize(
    ("options", "sent", "kind"),
    [({}, error(401, "no"), UserError), ({"experiment": "night", "usd_limit": 0.001}, answer("x"), LimitReached)],
)
def test_what_stops_everything_is_no_rows_failure(
    tmp_path: Path, options: dict[str, Any], sent: Sent, kind: type[Exception]
) -> None:
    with ChatServer(lambda body, number: sent) as server:
        at = desk(server, tmp_path, **options)
        with pytest.raises(kind):
            drive({"hello": said("hello")}, at)
        at.engine("judge").close()
