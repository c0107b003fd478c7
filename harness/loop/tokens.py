"""How many tokens a row takes, tried out: a few of a plan's own rows and items go through its own blocks on a model.

A rule that is wrong by three makes a training's or an evaluation's seconds wrong by three. What cannot be tried here (a
block that reads other sources, or asks several models) is taken like other work of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from harness.blocks import kinds
from harness.blocks.prompts import load_pack
from harness.engines.base import GenerateRequest
from harness.errors import UserError
from harness.loop.drive import Desk, drive
from harness.loop.rates import COUNTED, MODEL_WORK, answers_tuned
from harness.loop.stage import Stage
from harness.records.example import Example

if TYPE_CHECKING:
    from harness.engines.open import OpenEngine

TRIED = 16
"""Items that a block is tried with."""
LONGEST = 512
"""Tokens that an answer is given here at most: where a plan allows more, the forecast takes this for the most."""


def tokens_per_row(stage: Stage, engine: OpenEngine, rows: Sequence[Example]) -> float:
    """Tokens that a stage takes per row (a score) or writes per row (a synthesis) or item (an answer).

    A tuned model is not there yet: its answers are taken to be as long as those of the rows at hand.

    Raises:
        Exception: what the stage's block raises where it lacks what it reads besides these rows.
    """
    if not rows:
        raise ValueError("there are no rows to try it with")
    if answers_tuned(stage):
        return _replies(stage, engine, rows)
    context = _context(stage, engine)
    desk = Desk(lambda role: cast(Any, _Short(engine)), context)
    if len({binding.revision for binding in stage.models.values()}) != 1:
        raise UserError(f"{stage.label} asks several models")
    count = {"score": _score, "synthesize": _synthesize, "answer": _answer}[stage.action](stage, context, desk, rows)
    return desk.cost[COUNTED[MODEL_WORK[stage.action]][0]] / count


def _score(stage: Stage, context: kinds.Context, desk: Desk, rows: Sequence[Example]) -> int:
    drive({"rows": cast(kinds.Scorer, stage.block).score(rows, context)}, desk, tolerate=False)
    return len(rows)


def _synthesize(stage: Stage, context: kinds.Context, desk: Desk, rows: Sequence[Example]) -> int:
    """Returns how many rows came of the items, dropped ones too."""
    block = cast(kinds.Synthesizer, stage.block)
    items = list(islice(block.items(rows if block.reads_rows else (), context), TRIED))
    made = drive({item.id: block.make(item, context) for item in items}, desk)
    return sum(len(found) if isinstance(found, list) else 1 for found in made.values())


def _answer(stage: Stage, context: kinds.Context, desk: Desk, rows: Sequence[Example]) -> int:
    items = _items(stage)
    drive({item.id: cast(kinds.Suite, stage.block).answer(item, context) for item in items}, desk)
    return len(items)


def _replies(stage: Stage, engine: OpenEngine, rows: Sequence[Example]) -> float:
    chat: Any = engine.chat
    said = [m["content"] for row in rows for m in row.messages if m["role"] == "assistant"]
    limit = getattr(stage.block, "max_tokens", None) or LONGEST
    each = fmean(min(limit, len(chat.encode(text)) + 1) for text in said)  # with the token that ends it
    return each * fmean(len(item.turns) for item in _items(stage))


def _items(stage: Stage) -> Sequence[kinds.EvalItem]:
    items = cast(kinds.Suite, stage.block).items(str(stage.split))
    return items[:: max(1, len(items) // TRIED)][:TRIED]


def _context(stage: Stage, engine: OpenEngine) -> kinds.Context:
    pack = next((b.spec.prompt_pack for b in stage.models.values()), None)
    return kinds.Context(
        iteration=stage.iteration or 1,
        seed=stage.seed or 0,
        block=stage.scope,
        chats=dict.fromkeys(stage.models, engine.chat),
        prompts=load_pack(pack).entries if pack else {},
    )


class _Short:
    """An engine whose answers end at `LONGEST` tokens."""

    def __init__(self, engine: OpenEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, requests: Sequence[GenerateRequest]) -> Any:
        """As the engine's."""
        return self._engine.generate([_shortened(request) for request in requests])


def _shortened(request: GenerateRequest) -> GenerateRequest:
    limit = min(LONGEST, request.sampling.max_tokens)
    return replace(request, sampling=replace(request.sampling, max_tokens=limit))
