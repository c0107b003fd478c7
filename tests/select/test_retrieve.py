"""`retrieve`: passages from documents and from a search service, which here is a real server on this machine."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context, Embed
from harness.errors import UserError
from harness.records.example import Example, Message
from harness.select._lookup.passages import passages
from harness.select._lookup.web import snippets
from harness.select.retrieve import Retrieve

KEY = "not-to-be-seen-4711"


class Documents(list[Any]):
    pass


def context(*texts: str) -> Context:
    return Context(block="retrieve", sources={"documents": Documents({"text": text} for text in texts)})


# --- documents
def test_the_best_passages_come_first_and_their_number_is_a_score(score: Any, example: Any) -> None:
    here = context(
        "Cats sleep a lot.\n\nDogs bark at night.", "Mars is the red planet.", "The planet Mars has two moons."
    )
    block = Retrieve(documents="documents", hits=2, words=6)
    said = score(
        block, [example("a", "How many moons has Mars?", "x"), example("b", "zebra crossing", "x")], context=here
    )
    assert said["field:evidence"] == [["The planet Mars has two moons.", "Mars is the red planet."], None]
    assert said["evidence"] == [2.0, 0.0]
    assert said["tag:retrieved"] == ["found", "no hits"]
    assert here.tally.counts == {"found": 1, "no hits": 1}


def test_equally_good_passages_keep_their_order(score: Any, example: Any) -> None:
    texts = [f"{name} is a moon." for name in ("Io", "Europa", "Callisto", "Titan")]
    said = score(Retrieve(documents="documents", hits=3), [example("a", "moon", "x")], context=context(*texts))
    assert said["field:evidence"] == [texts[:3]]


def test_common_words_alone_find_nothing(score: Any, example: Any) -> None:
    said = score(
        Retrieve(documents="documents"), [example("a", "what is the", "x")], context=context("this is the text")
    )
    assert said["tag:retrieved"] == ["no hits"]


def test_only_single_questions_of_tasks_that_want_evidence_are_looked_up(score: Any, example: Any) -> None:
    turns = [("user", "Mars?"), ("assistant", "yes"), ("user", "and Venus?"), ("assistant", "no")]
    rows = [
        example("a", "Mars?", "x", tags={"task": "open_qa"}),
        example("b", "Mars?", "x", tags={"task": "poem_generation"}),
        example("c", "Mars?", "x"),
        Example(
            id="d",
            messages=tuple(Message(role=role, content=text) for role, text in turns),
            tags={"task": "open_qa"},
        ),
    ]
    said = score(Retrieve(documents="documents", task="task"), rows, context=context("Mars is red."))
    assert said["tag:retrieved"] == ["found", "not asked", "not asked", "not asked"]
    assert said["evidence"] == [1.0, None, None, None]


def test_documents_are_cut_at_paragraphs_and_long_paragraphs_between_words() -> None:
    rows = [{"text": "one two\n\nthree\n\nfour five six seven"}, {"text": "one two\n\nthree"}]
    assert passages(rows, None, 3) == ["one two\n\nthree", "four five six", "seven"]


def test_documents_without_text_and_without_the_column_are_refused(score: Any, example: Any) -> None:
    with pytest.raises(UserError, match="hold no text"):
        score(Retrieve(documents="documents"), [example("a", "Mars?", "x")], context=context(" "))
    with pytest.raises(UserError, match="nothing but the most common words"):
        score(Retrieve(documents="documents"), [example("a", "Mars?", "x")], context=context("and the"))
    with pytest.raises(UserError, match="no text column 'body' \\(it has text\\)"):
        score(Retrieve(documents="documents", column="body"), [example("a", "Mars?", "x")], context=context("Mars"))


def test_blocks_that_read_the_same_documents_otherwise_have_indexes_of_their_own(score: Any, example: Any) -> None:
    here = Context(
        block="retrieve", sources={"documents": Documents([{"text": "Mars is red.", "body": "Mars is far."}])}
    )
    said = [
        score(Retrieve(documents="documents", column=column), [example("a", "Mars?", "x")], context=here)
        for column in ("text", "body")
    ]
    assert [one["field:evidence"] for one in said] == [[["Mars is red."]], [["Mars is far."]]]


def test_documents_may_be_examples_chosen_by_a_tag(score: Any, example: Any) -> None:
    rows = Documents(
        [example("a", "Mars is far.", None, tags={"part": "document"}), example("b", "Mars?", "Mars is near.")]
    )
    here = Context(block="retrieve", sources={"documents": rows})
    said = score(Retrieve(documents="documents", tags={"part": "document"}), [example("q", "Mars?", "x")], context=here)
    assert said["field:evidence"] == [["Mars is far."]]


def test_vectors_of_a_model(score: Any, example: Any) -> None:
    import numpy as np

    def vector(request: Embed) -> Any:
        text = request.text or ""
        if text == "???":
            return ValueError("no token")
        return np.array(["Mars" in text, "cat" in text, 0], dtype="float32")

    block = Retrieve(by="model", model="e", documents="documents", words=3)
    rows = [example("a", "Mars?", "x"), example("b", "a cat", "x"), example("c", "???", "x")]
    said = score(block, rows, vector, context("Mars is red.", "One cat sleeps.", "Nothing."))
    assert said["field:evidence"] == [["Mars is red."], ["One cat sleeps."], None]
    assert said["tag:retrieved"] == ["found", "found", "no hits"]


@pytest.mark.parametrize(
    "options",
    [{}, {"by": "web", "documents": "d"}, {"by": "model", "documents": "d"}, {"documents": "d", "model": "e"}],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Retrieve(**options)


# --- the web
Reply = tuple[int, bytes]


class Search:
    """A search server. `behave` gets the body and the number of calls so far and gives status and body."""

    def __init__(self, behave: Callable[[dict[str, Any], int], Reply]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                outer.keys.append(self.headers.get("X-API-KEY"))
                status, sent = behave(body, len(outer.asked))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", sent.decode())
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                with suppress(BrokenPipeError):  # a client that waited long enough
                    self.wfile.write(sent)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/search"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Search, Retrieve]]]:
    monkeypatch.setenv("SERPER_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("harness.select._lookup.web._LONGEST_WAIT", 0.01)
    servers: list[Search] = []

    def start(behave: Callable[[dict[str, Any], int], Reply], **options: Any) -> tuple[Search, Retrieve]:
        servers.append(Search(behave))
        return servers[-1], Retrieve(by="web", url=servers[-1].url, **options)

    yield start
    for server in servers:
        server.close()


FULL = {
    "answerBox": {"answer": "1930", "snippet": "not this"},
    "knowledgeGraph": {
        "title": "Pluto", "type": "Dwarf planet", "description": "A dwarf\nplanet.", "attributes": {"Moons": "5"},
    },
    "organic": [
        {"snippet": "Missing: pluto", "link": "x"},
        {"snippet": "Pluto is small.", "attributes": {"Posted": "today"}, "link": "y"},
        {"title": "no snippet"},
        {"snippet": "Pluto is small.", "link": "z"},
        {"snippet": "It is cold.", "link": "z"},
    ],
}  # fmt: skip


def test_snippets_come_in_order_without_what_is_no_evidence() -> None:
    """Order and cleaning as in the released code, but cleaned before they are counted."""
    assert list(snippets(FULL)) == [
        "1930", "Pluto: Dwarf planet", "A dwarf planet.", "Moons: 5", "Pluto is small.", "Pluto is small.",
        "It is cold.",
    ]  # fmt: skip
    assert list(snippets({"answerBox": {"snippetHighlighted": ["a", "b"]}})) == ["a b"]
    assert list(snippets({"knowledgeGraph": {"type": "Dwarf planet"}})) == ["Dwarf planet"]
    assert list(snippets({"organic": None, "answerBox": "?", "knowledgeGraph": []})) == []


def test_a_search_sends_question_place_and_key_and_keeps_so_many_hits(search: Any, score: Any, example: Any) -> None:
    server, block = search(lambda body, n: (200, json.dumps(FULL).encode()))
    said = score(block, [example("a", "When was Pluto found?", "x")])
    assert said["field:evidence"] == [["1930", "Pluto: Dwarf planet", "A dwarf planet.", "Moons: 5", "Pluto is small."]]
    assert server.asked == [{"q": "When was Pluto found?", "gl": "us", "hl": "en"}]
    assert server.keys == [KEY]


def test_each_failure_is_that_rows_outcome_and_the_others_go_on(search: Any, score: Any, example: Any) -> None:
    def behave(body: dict[str, Any], n: int) -> Reply:
        if body["q"] == "slow":
            time.sleep(0.6)
        sent = {"broken": b"{", "list": b"[]", "empty": b"{}"}.get(body["q"], json.dumps(FULL).encode())
        return {"busy": 503, "wrong": 400}.get(body["q"], 200), sent

    server, block = search(behave, timeout=0.3, tries=2)
    names = ["fine", "slow", "busy", "wrong", "broken", "list", "empty"]
    said = score(block, [example(name, name, "x") for name in names])
    assert said["tag:retrieved"] == [
        "found", "failed: timeout", "failed: status 503", "failed: status 400", "failed: reply is not JSON",
        "failed: reply is not an object", "no hits",
    ]  # fmt: skip
    assert said["evidence"] == [5.0, None, None, None, None, None, 0.0]
    asked = [body["q"] for body in server.asked]
    assert (asked.count("busy"), asked.count("wrong"), asked.count("slow")) == (2, 1, 2), "tries are bounded"


def test_a_search_that_works_at_the_second_try_is_found(search: Any, score: Any, example: Any) -> None:
    _, block = search(lambda body, n: (200, json.dumps(FULL).encode()) if n > 1 else (429, b""))
    assert score(block, [example("a", "Pluto?", "x")])["tag:retrieved"] == ["found"]


def test_a_refused_key_stops_the_step_and_is_never_shown(
    search: Any, score: Any, example: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, block = search(lambda body, n: (403, b"who are you?"))
    with pytest.raises(UserError, match="refuses the key \\(status 403\\)") as error:
        score(block, [example("a", "Pluto?", "x")])
    shown = f"{error.value!s} {caplog.text} {block.model_dump_json()} {block.identity_options()}"
    assert KEY not in shown


def test_the_key_does_not_follow_a_redirect(search: Any, score: Any, example: Any) -> None:
    other, _ = search(lambda body, n: (200, b"{}"))
    _, block = search(lambda body, n: (302, other.url.encode()))
    assert score(block, [example("a", "Pluto?", "x")])["tag:retrieved"] == ["failed: status 302"]
    assert other.keys == []


def test_a_server_that_is_not_there(score: Any, example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPER_API_KEY", KEY)
    block = Retrieve(by="web", url="http://127.0.0.1:9/search", tries=1)
    with pytest.raises(UserError, match=r"127.0.0.1:9/search cannot be reached .*no connection \(ConnectionError\)"):
        score(block, [example("a", "x?", "x"), example("b", "y?", "x")])


def test_a_connection_that_breaks_once_is_that_rows_outcome(search: Any, score: Any, example: Any) -> None:
    def behave(body: dict[str, Any], n: int) -> Reply:
        if body["q"] == "gone":
            raise ConnectionAbortedError  # the server hangs up without a word
        return 200, json.dumps(FULL).encode()

    server, block = search(behave, tries=1)
    server.server.handle_error = lambda *args: None
    said = score(block, [example("a", "gone", "x"), example("b", "Pluto?", "x")])
    assert said["tag:retrieved"] == ["failed: no connection (ConnectionError)", "found"]


def test_a_key_that_is_not_set_is_named(score: Any, example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    block = Retrieve(by="web", key_env="MY_KEY")
    for step in (block.check_ready, lambda: score(block, [example("a", "x?", "x")])):
        with pytest.raises(UserError, match="set the environment variable MY_KEY"):
            step()
    Retrieve(documents="documents", key_env="MY_KEY").check_ready()


def test_the_embedder_that_needs_no_model(example: Any) -> None:
    from harness.engines.base import ModelSpec
    from harness.engines.hashed import HashedEngine
    from harness.loop.drive import Desk, drive

    engine = HashedEngine(ModelSpec(name="embedder", engine="hashed"))
    here = context("Mars is the red planet.", "Cats sleep a lot.")
    block = Retrieve(by="model", model="e", documents="documents", words=6, hits=1)
    rows = [example("a", "which planet is red?", "x"), example("b", "do cats sleep?", "x")]
    said = drive({"batch": block.score(rows, here)}, Desk(lambda role: engine, here), tolerate=False)["batch"]
    assert said["field:evidence"] == [["Mars is the red planet."], ["Cats sleep a lot."]]
