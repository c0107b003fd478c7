"""Where a stage's time went: seconds by name, measured without overlap (an inner timer is taken out of the outer)."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Sums wall seconds by name; `engine`, `trainer`, `import`, and `other` for the rest up to `wall`."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._spent: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

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

    def report(self) -> dict[str, float]:
        """Seconds by name, with the total as `wall` and what no timer covered as `other`."""
        wall = time.perf_counter() - self._start
        named = {name: round(seconds, 4) for name, seconds in self._spent.items()}
        return {"wall": round(wall, 4), **named, "other": round(wall - sum(self._spent.values()), 4)}
