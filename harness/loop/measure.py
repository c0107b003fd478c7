"""Measures one model after the other in a process of its own, as `harness.loop.calibrate` asks for."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from harness.blocks.kinds import TrainContext, Trainer
from harness.engines.base import GenerateRequest, LogprobRequest, ModelSpec, Sampling
from harness.engines.vllm.installed import build
from harness.loop import memory, tokens, worker
from harness.loop.rates import MODEL_WORK, Work, product_of, work_of
from harness.loop.stage import Stage
from harness.records.example import Example
from harness.store.home import Home

if TYPE_CHECKING:
    from harness.engines.open import OpenEngine

ROWS, NEW_TOKENS, FEW = 96, 48, 8
"""Rows of a pass, tokens that each is continued by, and rows of the warm-up."""
MATRIX: Mapping[str, int] = {"cpu": 1024, "cuda": 8192}
"""Side of the matrices: on a GPU, small ones measure how fast a product is started."""
PRODUCTS = 4
TRYING = 60.0
"""Seconds after which no further block of a model is tried for its tokens."""
Quantity = Literal["models", "tokens", "memory"]
"""What is kept of a model: its rates by kind of work, tokens per row by block, bytes at most by kind of work."""


@dataclass(frozen=True)
class Target:
    """One model to measure. `trainer` is the first that trains it, `rows` conversations of the plan's own sources."""

    name: str
    spec: ModelSpec
    trainer: Trainer | None
    rows: tuple[Example, ...]
    stages: tuple[Stage, ...] = ()
    """One of each block that asks it."""


@dataclass(frozen=True)
class Measured:
    """One number: which quantity, of which kind of work or block."""

    quantity: Quantity
    name: str
    value: float


def main(connection: Connection, setup: worker.Setup, targets: Sequence[Target]) -> None:
    """The life of the process: it answers once, with what it found of all targets."""
    worker.settle(setup)
    flops: dict[str, float] = {}
    found: dict[str, Any] = {"models": {}, "tokens": {}, "memory": {}, "why": {}, "machine": {"flops": flops}}
    for target in targets:
        for quantity in get_args(Quantity):
            found[quantity][target.name] = {}
        try:
            if (kind := product_of(target.spec)) not in flops:
                flops[kind] = _product_rate(setup.threads, kind)
            for one in measure(target, setup.threads):
                found[one.quantity][target.name][one.name] = round(one.value, 1)
        except Exception as error:  # noqa: BLE001 - what cannot be measured is told as such, all else is kept
            found["why"][target.name] = f"{type(error).__name__}: {error}"
    connection.send(found)


def measure(target: Target, threads: int) -> Iterator[Measured]:
    """Tokens per second by kind of work: `generate`, `score`, and `train` where the plan trains the model.

    With each, the memory that it took, and how many tokens a row takes in the plan's stages. Each as soon as it is
    known: a training that cannot be measured (of pairs, say: the rows are conversations) takes nothing from the others.
    """
    from harness.engines import open_engine

    memory.give_back()  # what the matrix product, or a training of the model before, left of a GPU, vLLM would lack
    # A home of its own: a reply that a served model gave in an earlier measurement would come back in no time.
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(target.spec, threads=threads, home=Home(Path(folder)))
        try:
            passes = _passes(engine, target.rows)
            yield from _measured_pass("generate", passes["generate"], len(target.rows), engine)
            yield from _tried(target, engine)
            yield from _measured_pass("score", passes["score"], len(target.rows), engine)
        finally:
            engine.close()
    if target.trainer is not None:
        train = _training(target, threads)
        yield from _measured_pass("train", train, len(target.rows))


def _measured_pass(
    work: Work, todo: Callable[[int], int], rows: int, engine: OpenEngine | None = None
) -> Iterator[Measured]:
    """The speed of a kind of work, the tokens of a row in it, and what this process and the engine's took of memory."""
    processes = getattr(engine, "pids", ())
    memory.give_back()
    memory.forget_peak(processes)
    speed, each = _rate(todo, rows)
    yield Measured("models", work, speed)
    if each and work != "generate":  # what was written was cut off: blocks are tried for that
        yield Measured("tokens", work, each)
    if (most := memory.peak(processes, gpu=bool(processes) and build() != "cpu")) is not None:
        yield Measured("memory", work, most)


def _tried(target: Target, engine: OpenEngine) -> Iterator[Measured]:
    """Tokens per row of the blocks that write with the model or score with it; and of any that writes, their mean."""
    begin, written = time.monotonic(), list[float]()
    for stage in target.stages:
        if stage.action == "finetune" or time.monotonic() - begin > TRYING:
            continue
        with suppress(Exception):  # a block that cannot be tried so is taken like other work of the model
            each = tokens.tokens_per_row(stage, engine, target.rows[: tokens.TRIED])
            if each > 0:
                written += [each] if MODEL_WORK[stage.action] == "generate" else []
                yield Measured("tokens", work_of(stage), each)
    if written:
        yield Measured("tokens", "generate", fmean(written))


def _passes(engine: OpenEngine, rows: Sequence[Example]) -> dict[Work, Callable[[int], int]]:
    """What to measure an engine with: each takes how many rows it is for, and returns the tokens of it."""
    chat: Any = engine.chat
    limit = getattr(engine, "context", None) or 2**30
    ids = [chat.render(row.messages)[:limit] for row in rows]
    prompts = [chat.render(row.messages[:1], add_generation_prompt=True)[: limit - NEW_TOKENS - 1] for row in rows]
    sampling = Sampling(max_tokens=NEW_TOKENS, temperature=1.0)

    def write(count: int) -> int:
        asked = [
            GenerateRequest(id=str(n), prompt=p, seed=n, sampling=sampling, messages=rows[n].messages[:1])
            for n, p in enumerate(prompts[:count])
        ]
        return sum(getattr(done, "new_tokens", 0) for done in engine.generate(asked))

    def read(count: int) -> int:
        asked = [LogprobRequest(id=str(n), ids=one, start=1) for n, one in enumerate(ids[:count]) if len(one) > 1]
        return sum(len(asked[int(done.request_id)].ids) for done in engine.logprobs(asked)) if asked else 0

    return {"generate": write, "score": read}


def _training(target: Target, threads: int) -> Callable[[int], int]:
    """One epoch of the plan's own trainer over so many rows; returns the trained tokens."""
    block = cast(Any, target.trainer).model_copy(
        update={"epochs": 1.0, "max_steps": None, "train_tokens": None, "checkpoints": 1, "choose": None}
    )

    def train(count: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "work").mkdir()
            context = TrainContext(
                start=cast(Path, target.spec.path),
                reference=target.spec.path,
                out=place / "model",
                work=place / "work",
                seed=0,
                device=target.spec.device,
                threads=threads,
                progress=lambda step, total, metrics: None,
            )
            return int(block.train(list(target.rows[:count]), context).train_tokens)

    return train


def _rate(work: Callable[[int], int], rows: int) -> tuple[float, float]:
    """Tokens per second between a small pass and the whole one, where what both pay once falls out; tokens per row."""
    few = min(FEW, rows)
    work(few)
    begin = time.perf_counter()
    small = work(few)
    between = time.perf_counter()
    large = work(rows)
    end = time.perf_counter()
    counted, seconds = large - small, (end - between) - (between - begin)
    speed = counted / seconds if counted > 0 and seconds > 0 else large / (end - between)
    return speed, large / max(1, rows)


def _product_rate(threads: int, kind: str) -> float:
    """Floating-point operations per second of a square matrix product, of a kind as `rates.product_of` names it."""
    import torch

    torch.set_num_threads(threads)
    device, dtype = kind.split()
    if not torch.cuda.is_available():  # devices without a PyTorch that knows them: engines take the CPU too
        device = "cpu"
    side = MATRIX[device]
    one = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(PRODUCTS):
        begin = time.perf_counter()
        float((one @ one)[0, 0])  # reading a number waits for the device
        seconds.append(time.perf_counter() - begin)
    return float(2 * side**3 / min(seconds))
