"""What a stage will ask of a served model, counted before it runs: calls, tokens and money.

Suites and judges are asked themselves: their generators are run on made-up answers, and what they would ask is counted
and answered with nothing. So orders, turns, repeats and reference prompts are counted as they are, also for a suite or
judge that others wrote. Sizes are estimates (four bytes to a token); the upper bound takes every answer as long as its
limit allows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from harness.blocks.kinds import Answer, Ask, Completion, Context, EvalItem, Judge, Suite
from harness.blocks.prompts import load_pack
from harness.config.sentinels import Sentinels
from harness.engines.base import ModelSpec
from harness.engines.served.settings import Prices, Served
from harness.engines.served.wire import BYTES_PER_TOKEN
from harness.loop.stage import Stage
from harness.records.hashing import sha256

ANSWER_BYTES = 1000
"""A made-up answer: about 250 tokens."""
COMPLETION = 300
"""Tokens of a judgement or an answer, where this home has no history and the limit is not lower."""
ROW_TOKENS = 200
"""Prompt tokens of a synthesized row."""
_SAMPLE = 48
"""Items that are tried out; the rest is taken to be like them."""


@dataclass(frozen=True)
class Calls:
    """What is asked of one served model. `usd` and `most_usd` are None where it has no prices."""

    role: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    most_usd: float | None
    """With every answer as long as its limit allows."""
    uncounted: int = 0
    """Stages whose asks could not be counted now; then `usd` and `most_usd` are None."""
    why: str | None = None
    """Why they could not: of the first of them."""

    def plus(self, other: Calls) -> Calls:
        """The sum for one model."""
        usd, most = _both(self.usd, other.usd), _both(self.most_usd, other.most_usd)
        prompt, completion = self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens
        missing = self.uncounted + other.uncounted
        why = self.why or other.why
        return Calls(self.role, self.model, self.calls + other.calls, prompt, completion, usd, most, missing, why)


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


@dataclass
class _Count:
    calls: float = 0
    prompt: float = 0
    limit: float = 0
    items: int = 0
    unknown: str | None = None
    """Why nothing could be counted."""

    def times(self, factor: float) -> _Count:
        """So many times as much."""
        return _Count(self.calls * factor, self.prompt * factor, self.limit * factor, self.items)

    def add(self, ask: Ask) -> None:
        n = ask.sampling.n
        self.calls += n
        self.prompt += n * sum(len(m["content"].encode("utf-8", "replace")) for m in ask.messages) / BYTES_PER_TOKEN
        self.limit += n * ask.sampling.max_tokens


@dataclass
class Trials:
    """What stages ask of served models; stages that ask the same are tried out once."""

    mean: float | None = None
    """Length of an answer in tokens, where history tells it."""
    _known: dict[str, _Count] = field(default_factory=dict)
    _watched: set[str] = field(default_factory=set)

    def calls_of(self, stage: Stage, rows: int | None) -> list[Calls]:
        """What a stage asks of each served model."""
        return [
            _priced(role, binding.spec, self._count(stage, role, rows), self.mean)
            for role, binding in stage.models.items()
            if binding.spec.remote
        ]

    def _count(self, stage: Stage, role: str, rows: int | None) -> _Count:
        if stage.action not in ("answer", "grade"):
            return _by_row(stage, rows)
        parts = [None if block is None else block.model_dump_json() for block in (stage.block, stage.judge)]
        name = sha256([stage.name, stage.split, role, _pack(stage), *parts])
        if name not in self._known:
            self._known[name] = _tried(stage, role)
        count = self._known[name]
        frozen = stage.data if stage.split == "test" and isinstance(stage.data, Sentinels) else None
        if count.unknown or frozen is None or role != "judge" or name in self._watched:
            return count
        self._watched.add(name)  # the first grade of a run has the judge's sentinels judged anew
        return count.times(1 + min(frozen.answers, count.items) * frozen.repeats / max(1, count.items))


def _by_row(stage: Stage, rows: int | None) -> _Count:
    if rows is None:
        return _Count(unknown="the number of their rows is not known yet")
    options = stage.block.model_dump() if stage.block is not None else {}
    limit = options.get("max_tokens")
    longest = limit if isinstance(limit, int) else COMPLETION
    return _Count(calls=rows, prompt=rows * ROW_TOKENS, limit=rows * longest)


def _priced(role: str, spec: ModelSpec, count: _Count, mean: float | None) -> Calls:
    served = Served.of(spec)
    if count.unknown is not None:
        return Calls(role, served.model, 0, 0, 0, None, None, uncounted=1, why=count.unknown)
    longest = count.limit / max(1.0, count.calls)
    written = count.calls * min(longest, mean or COMPLETION)
    usd, most = (_usd(served.prices, count.prompt, tokens) for tokens in (written, count.limit))
    return Calls(role, served.model, round(count.calls), round(count.prompt), round(written), usd, most)


def _usd(prices: Prices | None, prompt: float, completion: float) -> float | None:
    return None if prices is None else prices.usd(round(prompt), round(completion))


def _pack(stage: Stage) -> str | None:
    return next((binding.spec.prompt_pack for binding in stage.models.values()), None)


def _tried(stage: Stage, role: str) -> _Count:
    """The asks of a whole suite, from those of a sample of its items; where it cannot be tried now, why not."""
    suite, judge, pack = cast(Suite, stage.block), cast("Judge | None", stage.judge), _pack(stage)
    count = _Count()
    try:
        items = suite.items(str(stage.split))
        sample = items[:: max(1, len(items) // _SAMPLE)]
        context = Context(block=suite.name, prompts=load_pack(pack).entries if pack else {})
        for maker in _makers(suite, sample, judge, role, context):
            _run(maker, role, count)
    except Exception as error:  # noqa: BLE001  a forecast fails nothing, but says why it does not know
        return _Count(unknown=f"{stage.label}: {type(error).__name__}: {error}")
    count.items = len(items)
    return count.times(len(items) / max(1, len(sample)))


def _makers(
    suite: Suite, items: Sequence[EvalItem], judge: Judge | None, role: str, context: Context
) -> Iterator[Generator[Any, Any, Any]]:
    if role == "judge":
        answers = [_made_up(item) for item in items]
        yield suite.grade(items, answers, judge, context)
    else:
        yield from (suite.answer(item, context) for item in items)


def _made_up(item: EvalItem) -> Answer:
    turns = len(item.turns)
    text = "word " * (ANSWER_BYTES // 5)
    return Answer(item=item.id, outputs=(text,) * turns, finish=("stop",) * turns)


def _run(maker: Generator[Any, Any, Any], role: str, count: _Count) -> None:
    try:
        asks = next(maker)
        while True:
            for ask in asks:
                if isinstance(ask, Ask) and ask.model == role:
                    count.add(ask)
            asks = maker.send([_nothing(ask) for ask in asks])
    except StopIteration:
        return


def _nothing(ask: Any) -> tuple[Completion, ...]:
    draws = ask.sampling.n if isinstance(ask, Ask) else 1
    return tuple(
        Completion(request_id="", draw=draw, text="", token_ids=(), finish="stop", prompt_tokens=0)
        for draw in range(draws)
    )
