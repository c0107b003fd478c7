"""Where time goes: seconds by layer, measured without overlap (an inner timer is taken out of the outer).

Code at the leaves says once which layer it is (`@timed("io")`, `with layer("tokenizer")`) and needs no timer handed
down: the timer that is active around the call gets its seconds. Where none is active, a call costs nothing to speak of.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Slices(Protocol):
    """Takes finished slices of time, for a profile."""

    def add(self, name: str, begin: float, seconds: float) -> None:
        """`begin` is a reading of `time.perf_counter`."""
        ...


class Timer:
    """Sums wall seconds by name; `other` is the rest up to `wall`. With `slices`, each measurement is told to them."""

    def __init__(self, slices: Slices | None = None) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()
        self._spent: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []
        self.slices = slices

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            took = time.perf_counter() - begin
            self._spent[name] += took - self._inner.pop()
            if self._inner:
                self._inner[-1] += took
            if self.slices is not None:
                self.slices.add(name, begin, took)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Gives this timer what `timed` and `layer` measure in the body."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def report(self) -> dict[str, float]:
        """Seconds by name, the total as `wall`, what no timer covered as `other`, and processor seconds as `cpu`."""
        wall = time.perf_counter() - self._start
        named = {name: round(seconds, 4) for name, seconds in self._spent.items() if name != "other"}
        other = wall - sum(seconds for name, seconds in self._spent.items() if name != "other")
        cpu = time.process_time() - self._cpu
        return {"wall": round(wall, 4), "cpu": round(cpu, 4), **named, "other": round(other, 4)}


_active: ContextVar[Timer | None] = ContextVar("active", default=None)


@contextmanager
def layer(name: str) -> Iterator[None]:
    """Counts the body's seconds as `name` of the active timer."""
    timer = _active.get()
    if timer is None:
        yield
    else:
        with timer(name):
            yield


def timed(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Counts a function's seconds as `name` of the active timer."""

    def around(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> T:
            timer = _active.get()
            if timer is None:
                return function(*args, **options)
            with timer(name):
                return function(*args, **options)

        return call

    return around


def each(name: str, items: Iterable[T]) -> Iterator[T]:
    """Counts the making of each item as `name`. Only for items that are dear: each costs two microseconds more."""
    timer = _active.get()
    if timer is None:
        yield from items
        return
    iterator = iter(items)
    while True:
        with timer(name):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
