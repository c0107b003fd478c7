"""Scorers through the engine that users run: batches of unlike lengths change no value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Context, Scorer
from harness.engines import open_engine
from harness.engines.base import Engine, ModelSpec
from harness.loop.drive import Desk, drive
from harness.records.example import Example
from harness.select.confidence import Confidence
from harness.select.ifd import Ifd
from harness.select.prefer import Prefer


@pytest.fixture
def engine(tiny: Path) -> Iterator[Engine]:
    engine = open_engine(ModelSpec(name="tiny", path=tiny))
    yield engine
    engine.close()


def through(engine: Engine, block: Scorer, rows: Sequence[Example]) -> Any:
    context = Context(block=block.name, chats={"student": engine.chat})
    return drive({"batch": block.score(rows, context)}, Desk(lambda role: engine, context), tolerate=False)["batch"]


@pytest.mark.parametrize(
    "block", [Ifd(), Ifd(variant="superfiltering", max_length=90), Confidence()], ids=["chat", "super", "conf"]
)
def test_likelihood_scores_equal_the_plain_forward(
    block: Scorer, engine: Engine, triples: Sequence[Example], score: Any, plain_torch: Callable[[Any], Any]
) -> None:
    wanted = score(block, triples, plain_torch, Context(chats={"student": engine.chat}))
    for name, values in through(engine, block, triples).items():
        assert list(values) == pytest.approx(wanted[name], abs=1e-4)


def test_preference_is_antisymmetric(engine: Engine, triples: Sequence[Example], example: Any) -> None:
    answers = [str(row.answer) for row in triples]
    new = [example(f"n{k}", "why?", a, fields={"parent_answer": answers[k - 1]}) for k, a in enumerate(answers)]
    old = [example(f"o{k}", "why?", answers[k - 1], fields={"parent_answer": a}) for k, a in enumerate(answers)]
    forth, back = (through(engine, Prefer(by="likelihood"), rows)["prefer"] for rows in (new, old))
    assert [f + b for f, b in zip(forth, back, strict=True)] == pytest.approx([1.0] * len(answers), abs=1e-4)
    assert len(set(forth)) > len(answers) / 2


def test_agreement_is_repeatable_and_a_share(engine: Engine, triples: Sequence[Example]) -> None:
    block = Confidence(by="agreement", samples=2, max_tokens=8)
    first = through(engine, block, triples[:4])["confidence"]
    assert first == through(engine, block, triples[:4])["confidence"]
    assert through(engine, block, triples[2:4])["confidence"] == first[2:4], (
        "a row's samples do not depend on its neighbours"
    )
    assert all(0 <= value <= 1 for value in first)
