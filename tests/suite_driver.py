"""A tiny engine for suites: answers asks from a function, and scores token ids by a rule."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Suite, Tolerant
from harness.engines.base import Completion

Say = Callable[[Any], Any]


def completion(text: str, finish: Any = "stop") -> tuple[Completion]:
    """What an engine would give for one ask; every word counts as a token."""
    ids = tuple(range(len(text.split())))
    return (Completion(request_id="0", draw=0, text=text, token_ids=ids, finish=finish, prompt_tokens=7),)


def drive(maker: Generator[Any, Any, Any], say: Callable[[Any], Any]) -> Any:
    """Runs one generator; `say` gives the text for an ask, or a whole reply, or an exception."""
    try:
        requests = next(maker)
        while True:
            replies = [_reply(say(request)) for request in requests]
            error = next((r for r in replies if isinstance(r, Exception)), None)
            tolerant = isinstance(requests, Tolerant)
            requests = maker.throw(error) if error is not None and not tolerant else maker.send(replies)
    except StopIteration as stop:
        return stop.value


def _reply(given: Any) -> Any:
    return completion(given) if isinstance(given, str) else given


def answers(suite: Suite, items: Sequence[EvalItem], say: Say, context: Context | None = None) -> list[Answer]:
    return [drive(suite.answer(item, context or Context()), say) for item in items]


def grades(
    suite: Suite, items: Sequence[EvalItem], given: Sequence[Answer], judge: Judge | None, say: Any = None
) -> list[Grade]:
    def silent(request: Any) -> str:
        raise AssertionError(f"nothing should be asked: {request}")

    result: list[Grade] = drive(suite.grade(items, given, judge, Context()), say or silent)
    return result


def said(items: Sequence[EvalItem], outputs: Sequence[Sequence[str]]) -> list[Answer]:
    """Answers as if a model had given these outputs."""
    return [Answer(item=item.id, outputs=tuple(texts)) for item, texts in zip(items, outputs, strict=True)]
