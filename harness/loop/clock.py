"""Where a stage's time went: seconds by name, measured without overlap (an inner timer is taken out of the outer)."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


class Timer:
    """Sums wall seconds by name; `engine`, `trainer`, `import`, and `other` for the rest up to `wall`."""

    def __init__(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()
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
        """Seconds by name, the total as `wall`, what no timer covered as `other`, and processor seconds as `cpu`."""
        wall = time.perf_counter() - self._start
        named = {name: round(seconds, 4) for name, seconds in self._spent.items()}
        other = wall - sum(self._spent.values())
        cpu = time.process_time() - self._cpu
        return {"wall": round(wall, 4), "cpu": round(cpu, 4), **named, "other": round(other, 4)}


ONCE = ("import", "open")
"""Times that the first of several stages caused for all of them."""


def shared(report: Mapping[str, float], weights: Sequence[float]) -> list[dict[str, float]]:
    """A report of several stages' common work, divided by their (positive) weights; the parts add up to the whole."""
    once = {name: report[name] for name in ONCE if name in report}
    divided = {name: seconds for name, seconds in report.items() if name not in once}
    divided["wall"] -= sum(once.values())
    parts = [
        {name: round(seconds * weight / sum(weights), 4) for name, seconds in divided.items()} for weight in weights
    ]
    parts[0]["wall"] = round(parts[0]["wall"] + sum(once.values()), 4)
    parts[0] |= once
    return parts
