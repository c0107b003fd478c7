"""The worker's end of a vLLM process, with a made-up process in its place: no vLLM is needed here."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.engines.vllm.engine import VllmEngine
from harness.engines.vllm.link import Link
from harness.engines.vllm.messages import Opened, Work, Written
from harness.errors import Transient

HOST = """
import os, sys
from multiprocessing.connection import Connection
from harness.engines.vllm.messages import Dropped, Opened, Part, Written
connection = Connection(int(sys.argv[2]))
connection.recv()
print("what it said", flush=True)
connection.send(Opened(513, 100, 0.0, 0.0))
while (message := connection.recv()) is not None:
    if message[0] == "drop":
        connection.send(Dropped(message[1]))
    else:
        for work in message[2]:
            if work.ids[0] == 0:
                os._exit(3)
            connection.send(Part(message[1], [Written(work.number, list(work.ids), True, [])]))
"""
"""It does a call from its first work to its last, and reads nothing meanwhile."""


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Link]:
    start = subprocess.Popen

    def started(arguments: Sequence[str], **more: Any) -> Any:
        return start([arguments[0], "-c", HOST, *arguments[3:]], **more)

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    link = Link("m", {}, {})
    assert isinstance(link.opened(), Opened)
    yield link
    link.close()


def asked(link: Link) -> Any:
    engine = VllmEngine.__new__(VllmEngine)
    engine._hosts = SimpleNamespace(links=lambda: [link], tickets=itertools.count())  # type: ignore[assignment]
    return engine._asked


def works(first: int, count: int, length: int = 1) -> list[Work]:
    """Works whose ids, which the process gives back, tell them apart."""
    return [Work(number, (first + number,) * length, {}) for number in range(count)]


def ids(written: Sequence[Written]) -> list[int]:
    return [one.ids[0] for one in written]


def test_two_calls_that_are_read_in_turn_give_each_its_own(link: Link) -> None:
    ask = asked(link)
    one, two = ask(works(100, 50)), ask(works(200, 30))
    got: tuple[list[Written], list[Written]] = ([], [])
    for first, second in itertools.zip_longest(one, two):
        got[0].extend([] if first is None else [first])
        got[1].extend([] if second is None else [second])
    assert ids(got[0]) == list(range(100, 150))
    assert ids(got[1]) == list(range(200, 230))
    assert ids(list(ask(works(300, 2)))) == [300, 301]
    assert not link._calls, "nothing is kept of calls that are over"


def test_a_call_is_made_while_much_of_another_is_unread(link: Link) -> None:
    """More than the connection holds on either side: the process cannot send, and we have much to say."""
    ask = asked(link)
    one = ask(works(1, 400, length=4000))
    assert next(one).ids[0] == 1
    assert ids(list(ask(works(1000, 400, length=4000)))) == list(range(1000, 1400))
    assert ids(list(one)) == list(range(2, 401))


def test_a_call_that_is_given_up_takes_nothing_from_another(link: Link) -> None:
    ask = asked(link)
    one, two = ask(works(100, 20)), ask(works(200, 20))
    next(one), next(two)
    cast(Generator[Any], one).close()
    assert ids(list(ask(works(300, 3)))) == [300, 301, 302]
    assert ids(list(two)) == list(range(201, 220))


def test_where_the_process_dies_every_call_says_so_and_keeps_what_came(link: Link) -> None:
    ask = asked(link)
    one = ask(works(-2, 5))  # at the third of these it dies
    assert next(one).ids[0] == -2
    with pytest.raises(Transient, match=r"(?s)the model m ended \(exit code 3\).*what it said"):
        list(ask(works(1, 1)))
    link.close()
    got = []
    with pytest.raises(Transient, match="the model m ended"):
        got += [later.ids[0] for later in one]
    assert got in ([], [-1])


def test_what_the_process_prints_has_no_file_that_could_be_left(link: Link, tmp_path: Path) -> None:
    assert not list(tmp_path.iterdir())
    os.kill(link.pid, signal.SIGKILL)
    with pytest.raises(Transient, match=r"killed by SIGKILL"):
        list(asked(link)(works(1, 1)))
