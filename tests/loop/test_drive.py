"""Driving generators: replies arrive aligned, rounds are batched, one row's failure is its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Ask, Context, Reply, Request
from harness.engines.base import Completion, GenerateRequest, Sampling
from harness.loop.clock import Timer
from harness.loop.drive import Desk, Failed, drive
from harness.loop.shards import resumable_map


class Chat:
    def render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = False) -> tuple[int, ...]:
        return tuple(len(m["content"]) for m in messages)

    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        return tuple(range(len(text)))


@dataclass
class Echo:
    """An engine that says its prompt and seed back, last request first."""

    chat: Chat = field(default_factory=Chat)
    calls: list[int] = field(default_factory=list)
    context: int = 50

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        self.calls.append(len(requests))
        for r in reversed(requests):
            for draw in reversed(range(r.sampling.n)):
                text = f"{r.prompt}/{r.seed}/{draw}"
                yield Completion(
                    request_id=r.id, draw=draw, text=text, token_ids=(1, 2), finish="stop", prompt_tokens=len(r.prompt)
                )


def say(text: str, **kw: Any) -> Ask:
    return Ask(model="m", messages=({"role": "user", "content": text},), **kw)


def test_replies_are_aligned_and_rounds_are_batched() -> None:
    def row(first: str, second: str | None) -> Generator[Sequence[Request], Sequence[Reply], list[str]]:
        ((a,),) = yield [say(first)]
        if second is None:
            return [a.text]
        (b, c) = yield [say(second, sampling=Sampling(n=2)), say("xx", draw=1)]
        return [a.text, *(x.text for x in b), c[0].text]

    engine = Echo()
    desk = Desk(lambda role: engine, Context(seed=1, block="t"))  # type: ignore[arg-type, return-value]
    out = drive({"r1": row("a", "bbb"), "r2": row("cc", None)}, desk)
    assert engine.calls == [2, 2]
    assert [t.split("/")[0] for t in out["r1"]] == ["(1,)", "(3,)", "(3,)", "(2,)"]
    assert [t.split("/")[2] for t in out["r1"]] == ["0", "0", "1", "0"]
    assert out["r1"][1].split("/")[1] != out["r1"][3].split("/")[1], "another draw has another seed"
    assert desk.cost == {"generated_tokens": 10, "prompt_tokens": 4}


def test_a_rows_seed_depends_on_the_row_alone() -> None:
    def row() -> Generator[Sequence[Request], Sequence[Reply], str]:
        ((a,),) = yield [say("q")]
        return str(a.text)

    def seeds(rows: list[str], data_seed: int) -> dict[str, str]:
        desk = Desk(lambda role: Echo(), Context(seed=data_seed, block="t"))  # type: ignore[arg-type, return-value]
        return drive({r: row() for r in rows}, desk)

    assert seeds(["a", "b"], 0)["b"] == seeds(["b"], 0)["b"]
    assert seeds(["b"], 0)["b"] != seeds(["b"], 1)["b"]


def test_one_rows_failure_is_its_own() -> None:
    def bad() -> Generator[Sequence[Request], Sequence[Reply], str]:
        yield [say("q")]
        raise ValueError("no number in the text")

    def good() -> Generator[Sequence[Request], Sequence[Reply], str]:
        yield [say("q")]
        return "fine"

    def long() -> Generator[Sequence[Request], Sequence[Reply], str]:
        yield [Ask(model="m", text="x" * 60)]
        return "never"

    desk = Desk(lambda role: Echo(), Context())  # type: ignore[arg-type, return-value]
    out = drive({"bad": bad(), "good": good(), "long": long()}, desk)
    assert out["good"] == "fine"
    assert out["bad"] == Failed("ValueError: no number in the text")
    assert out["long"] == Failed("RowFailed: prompt of 60 tokens exceeds the context of 50", expected=True)
    with pytest.raises(ValueError, match="no number"):
        drive({"bad": bad()}, desk, tolerate=False)


def test_finished_shards_are_not_redone(tmp_path: Path) -> None:
    calls: list[tuple[int, ...]] = []

    def run(part: Sequence[int]) -> dict[str, Any]:
        calls.append(tuple(part))
        if part[0] == 4 and len(calls) == 3:
            raise RuntimeError("killed")
        return {"sum": sum(part)}

    items = list(range(7))
    with pytest.raises(RuntimeError):
        list(resumable_map(items, 2, tmp_path, run))
    assert [r["sum"] for r in resumable_map(items, 2, tmp_path, run)] == [1, 5, 9, 6]
    assert calls == [(0, 1), (2, 3), (4, 5), (4, 5), (6,)]


def test_time_is_not_counted_twice() -> None:
    timer = Timer()
    with timer("grader"), timer("engine"):
        sum(range(200_000))
    report = timer.report()
    assert report["engine"] > report["grader"] >= 0
    assert report["wall"] >= report["engine"] + report["grader"]
