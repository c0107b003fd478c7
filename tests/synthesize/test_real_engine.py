"""Synthesizers through the engine that users run: a scratch model's rows are repeatable and well-formed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from harness.blocks.kinds import Context, Feedback, Synthesizer, Weakness
from harness.engines import open_engine, scratch
from harness.engines.base import Engine, ModelSpec
from harness.judges.textrules import TextRules
from harness.loop.drive import Desk, drive
from harness.records.example import Dropped, Example, Message
from harness.synthesize.magpie import Magpie
from harness.synthesize.respond import Respond
from harness.synthesize.rewrite import Rewrite


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("scratch")
    scratch.build(
        folder, hidden=32, layers=2, heads=2, vocab=300, seed=0, texts=["the cat sat on the mat"] * 9, context=256
    )
    engine = open_engine(ModelSpec(name="scratch", path=folder))
    yield engine
    engine.close()


def through(engine: Engine, block: Synthesizer, rows: Iterable[Example] = (), **more: Any) -> list[Any]:
    chats = dict.fromkeys(("teacher", "current"), engine.chat)
    context = Context(block=block.name, chats=chats, **more)
    items = list(block.items(rows, context))
    made = drive({i.id: block.make(i, context) for i in items}, Desk(lambda role: engine, context), tolerate=False)
    return [row for item in items for row in made[item.id]]


def test_magpie(engine: Engine) -> None:
    block = Magpie(rows=6, max_tokens=12, response_max_tokens=6, keep_cut=True, first_bans=("t",))
    made = through(engine, block)
    assert len(made) == 6
    for row in made:
        if isinstance(row, Dropped):
            assert row.reason in {"cut instruction", "empty instruction", "empty response"}
        else:
            assert [m["role"] for m in row.messages] == ["user", "assistant"]
    assert made == through(engine, block), "the same seed gives the same rows"
    assert made != through(engine, block, seed=1)
    assert made[:3] == through(engine, block.model_copy(update={"rows": 3})), "a longer stage keeps its first part"


def test_a_steered_turn_begins_after_its_system_turn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    generate = engine.generate  # type: ignore[attr-defined]

    def recorded(requests: Any) -> Any:
        prompts.extend(engine.chat.tokenizer.decode(r.prompt) for r in requests)
        return generate(requests)

    monkeypatch.setattr(engine, "generate", recorded)
    feedback = Feedback(categories=(Weakness(category="math", score=0.0, n=10),))
    block = Magpie(rows=1, max_tokens=4, focus="feedback")
    through(engine, block, feedback=feedback, prompts={"steer": "you help with {category} ."})
    assert prompts == ["<|im_start|>system\nyou help with math .<|im_end|>\n<|im_start|>user\n"]


def test_respond(engine: Engine) -> None:
    rows = [Example(id=f"r{k}", messages=(Message(role="user", content="the cat " * k),)) for k in range(1, 5)]
    block = Respond(n=2, max_tokens=5, keep_cut=True)
    made = through(engine, block, rows)
    assert len(made) == 8
    assert len({(row.example if isinstance(row, Dropped) else row).id for row in made}) == 8
    assert made[2:4] == through(engine, block, rows[1:2]), "a row's answers do not depend on its neighbours"
    cut = through(engine, Respond(max_tokens=1), rows)
    assert {row.reason for row in cut if isinstance(row, Dropped)} <= {"cut by the length cap", "empty answer"}
    assert any(isinstance(row, Dropped) for row in cut)


def test_rewrite_keeps_what_is_too_long_for_the_rewriter_and_what_it_does_not_understand(engine: Engine) -> None:
    def row(name: str, answer: str) -> Example:
        turns = (Message(role="user", content="the cat?"), Message(role="assistant", content=answer))
        return Example(id=name, messages=turns, tags={"task": "open_qa"})

    prompts = {"rewrite_format": "{question} {answer}", "rewrite_format.parse": "new: (.*)"}
    block = Rewrite(max_tokens=8, rules=TextRules(), retries=0)
    rows = [row("short", "the mat"), row("long", "the cat sat on the mat " * 90)]
    made = through(engine, block, rows, prompts=prompts)
    assert [one.messages for one in made] == [one.messages for one in rows]
    assert made[0].tags["rewritten.why"] in {"reply not readable", "cut by the length cap"}
    assert made[1].tags["rewritten.why"] == "too long for the rewriter"
    assert "exceeds the context of 256" in made[1].fields["replies"][0]
    assert made == through(engine, block, rows, prompts=prompts), "the same seed gives the same rows"
