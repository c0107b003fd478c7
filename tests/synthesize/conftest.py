"""Drives synthesizers with replies from a function instead of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from harness.blocks.kinds import Ask, Context, Item, Synthesizer
from harness.engines.base import Completion, Engine
from harness.loop.drive import Desk, drive
from harness.records.example import Drop, Dropped, Example


class Scripted(Desk):
    """Answers each ask with `say(ask)`: a text, (text, finish), a completion, or a list of them for several draws."""

    def __init__(self, say: Callable[[Ask], Any], context: Context) -> None:
        super().__init__(_no_engine, context)
        self.say = say
        self.asked: list[Ask] = []

    def replies(self, asks: Sequence[tuple[str, Any]]) -> list[Any]:
        self.asked += [ask for _, ask in asks]
        return [said if isinstance(said, Exception) else _completions(said) for said in (self.say(a) for _, a in asks)]


def _no_engine(role: str) -> Engine:
    raise AssertionError(f"no engine should be opened for {role}")


def _completions(said: Any) -> Any:
    if isinstance(said, Completion | Exception):
        return (said,) if isinstance(said, Completion) else said
    draws = said if isinstance(said, list) else [said]
    texts = [draw if isinstance(draw, tuple) else (draw, "stop") for draw in draws]
    return tuple(
        Completion(request_id="r", draw=k, text=text, token_ids=(1,), finish=finish, prompt_tokens=1)
        for k, (text, finish) in enumerate(texts)
    )


@dataclass(frozen=True)
class Made:
    rows: list[Example]
    dropped: list[Dropped]
    asked: list[Ask]

    @property
    def reasons(self) -> list[str]:
        return [d.reason for d in self.dropped]


@pytest.fixture
def synthesize() -> Callable[..., Made]:
    def run(
        block: Synthesizer, rows: Iterable[Example], say: Callable[[Ask], Any] = str, context: Context | None = None
    ) -> Made:
        context = context or Context(block=block.name)
        desk, items = Scripted(say, context), list(block.items(rows, context))
        assert len({item.id for item in items}) == len(items), "item ids are unique"
        made: list[Example | Dropped] = []
        for part in [[item] for item in items] if block.in_turn else [items]:
            results = drive({item.id: block.make(item, context) for item in part}, desk, tolerate=False)
            new = [one for item in part for one in _outcome(item, results[item.id])]
            made += new
            context.earlier.extend(new if block.in_turn else ())
        kept = [row for row in made if isinstance(row, Example)]
        return Made(kept, [row for row in made if isinstance(row, Dropped)], desk.asked)

    return run


def _outcome(item: Item, result: Any) -> Sequence[Example | Dropped]:
    if isinstance(result, Drop):
        return [Dropped(item.row or Example(id=item.id, messages=()), result.reason)]
    outcome: Sequence[Example | Dropped] = result
    return outcome
