"""Runs many judgements as one: their asks are yielded together, so an engine sees full batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.blocks.kinds import Reply, Request, Tolerant
from harness.errors import LimitReached, StageFailed, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Unjudged:
    """A judgement that failed, with the reason."""

    reason: str


def gather(
    makers: Sequence[Generator[Sequence[Request], Sequence[Reply], T]],
) -> Generator[Sequence[Request], Sequence[Reply], list[T | Unjudged]]:
    """Advances all makers in step and returns what each returned, or why it failed; one failure spares the others."""
    results: dict[int, T | Unjudged] = {}
    waiting: dict[int, Sequence[Request]] = {}

    def advance(index: int, step: Callable[[], Sequence[Request]]) -> None:
        try:
            waiting[index] = step()
        except StopIteration as stop:
            results[index] = stop.value
        except (UserError, StageFailed, LimitReached):
            raise
        except Exception as error:  # noqa: BLE001  the border of one judgement: recorded as the reason why it is missing
            results[index] = Unjudged(f"judge failed: {type(error).__name__}: {error}")

    for index, maker in enumerate(makers):
        advance(index, maker.__next__)
    while waiting:
        asked, waiting = waiting, {}
        replies = iter((yield Tolerant(request for requests in asked.values() for request in requests)))
        for index, requests in asked.items():
            advance(index, _step(makers[index], [next(replies) for _ in requests]))
    return [results[index] for index in range(len(makers))]


def _step(maker: Generator[Any, Any, Any], replies: list[Reply]) -> Callable[[], Sequence[Request]]:
    error = next((reply for reply in replies if isinstance(reply, Exception)), None)
    return (lambda: maker.send(replies)) if error is None else (lambda: maker.throw(error))
