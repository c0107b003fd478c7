"""Runs an experiment in this one process with a made-up model, and can kill itself at a write: `fake_run FILE LOG`.

What the model says depends on its whole batch, so a shard that was redone with other neighbours shows. Every request
leaves a line in LOG, so what was asked twice shows too. `KILL_AT` is a pattern and a number, `answers/.*manifest 2`:
after the second file or folder of such a path is in place, the process is gone.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import api
from harness.engines.base import Completion, GenerateRequest
from harness.loop import worker
from harness.loop.desk import Engines
from harness.loop.run import run
from harness.loop.stage import Stage
from harness.store.artifacts import Store
from harness.store.home import Home


class Chat:
    def render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = False) -> tuple[int, ...]:
        return tuple(" ".join(m["content"] for m in messages).encode())


class Model:
    chat, context = Chat(), 100_000

    def __init__(self, log: Path) -> None:
        self.log = log

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        batch = hashlib.sha256(repr([(r.prompt, r.seed) for r in requests]).encode()).hexdigest()[:8]
        for request in requests:
            with self.log.open("a") as file:
                file.write(hashlib.sha256(repr((request.prompt, request.seed)).encode()).hexdigest() + "\n")
            grade = request.seed % 10 + 1
            yield Completion(
                request_id=request.id,
                draw=0,
                text=f"My final verdict: [[{grade}]] {batch}",
                token_ids=(1, 2),
                finish="stop",
                prompt_tokens=len(request.prompt),
            )


class Made(Engines):
    """Engines of the made-up model; how often one was opened is counted as for real ones."""

    def __init__(self, store: Store, log: Path) -> None:
        super().__init__(store, 1)
        self.model, self.last = Model(log), ""

    def get(self, binding: Any, timer: Any) -> Any:
        if binding.spec.revision != self.last:
            self.last = binding.spec.revision
            self.opened += 1
        return self.model


class Here:
    """The executor that is this process."""

    def __init__(self, log: Path) -> None:
        self.log, self.messages = log, list[tuple[Any, ...]]()

    def __call__(self, home: Home, workers: int) -> Here:
        self.store = Store(home)
        self.engines, self.setup = Made(self.store, self.log), worker.Setup(home, 1)
        return self

    def free(self) -> list[int]:
        return [] if self.messages else [0]

    def last_model(self, place: int) -> str | None:
        return self.engines.last

    def submit(self, place: int, stages: Sequence[Stage]) -> int:
        worker._together(self, stages, self.store, self.engines, self.setup)  # type: ignore[arg-type]
        return os.getpid()

    def send(self, message: tuple[Any, ...]) -> None:
        self.messages.append(message)

    def events(self, timeout: float) -> Iterator[tuple[Any, ...]]:
        found, self.messages = self.messages, []
        yield from found

    def close(self, kill: bool = False) -> None:
        pass


def kill_at(pattern: str, count: int) -> None:
    """From the `count`-th time on that a path in place matches, this process is gone."""
    place, seen = os.replace, 0

    def replace(source: Any, target: Any) -> None:
        nonlocal seen
        place(source, target)
        seen += bool(re.search(pattern, str(target)))
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace  # type: ignore[assignment]


def main(file: str, log: str) -> int:
    if "KILL_AT" in os.environ:
        pattern, count = os.environ["KILL_AT"].split()
        kill_at(pattern, int(count))
    sys.modules.setdefault("torch", type(sys)("torch")).set_num_threads = lambda count: None  # type: ignore[attr-defined]
    return run(api.plan(file), workers=1, executor=Here(Path(log))).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
