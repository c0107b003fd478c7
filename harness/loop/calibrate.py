"""A short measured pass per model of a plan, in a worker process: how fast it writes, reads and trains here.

What is measured lands in the home's `calibration.json`, by the model's signature (`harness.loop.rates.signature`), with
the rate of a plain matrix product. Forecasts use it where the home has no finished stages of that model.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.blocks.kinds import TrainContext, Trainer
from harness.engines.base import GenerateRequest, LogprobRequest, ModelSpec, Sampling
from harness.errors import UserError
from harness.loop import forked, worker
from harness.loop.devices import visible_devices
from harness.loop.plan import Plan
from harness.loop.rates import calibration_file, model_of_stage, root, signature
from harness.records.example import Example
from harness.store.atomic import write_json
from harness.store.home import Home

if TYPE_CHECKING:
    from harness.engines.open import OpenEngine

ROWS, NEW_TOKENS, FEW = 96, 48, 8
"""Rows of a pass, tokens that each is continued by, and rows of the warm-up."""
MATRIX, PRODUCTS = 1024, 4


@dataclass(frozen=True)
class Target:
    """One model to measure. `trainer` is the first that trains it, `rows` conversations of the plan's own sources."""

    name: str
    spec: ModelSpec
    trainer: Trainer | None
    rows: tuple[Example, ...]


@dataclass(frozen=True)
class Told:
    """What came of a model: tokens per second by kind of work, and why something is missing."""

    model: str
    rates: Mapping[str, float]
    why: str | None = None


def calibrate(plan: Plan, home: Home) -> list[Told]:
    """Measures every model of the plan that is a folder here, and keeps the rates in the home.

    Raises:
        UserError: the plan has no conversations to measure with, or the process that measures died.
    """
    targets = targets_of(plan)
    # All devices: a model that is spread over several needs them, and any other takes the first.
    found = _measured(targets, worker.Setup(home, 1, ",".join(visible_devices()) or None))
    told = [Told(t.spec.name, found["models"].get(t.name, {}), found["why"].get(t.name)) for t in targets]
    _keep(home, found)
    return told


def _measured(targets: Sequence[Target], setup: worker.Setup) -> dict[str, Any]:
    """What a process of its own measures. It is ended with the caller: Ctrl-C must not wait for the measurements."""
    context = forked.context(setup.threads)
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs, setup, targets), name="loopbench-calibration")
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = ours.recv()
    except EOFError as error:
        process.join()
        raise UserError(
            f"the process that measures the models died (exit code {process.exitcode}): nothing was measured. Was "
            "there enough memory for one of them?"
        ) from error
    finally:
        process.kill()
        process.join()
        ours.close()
    return found


def targets_of(plan: Plan) -> list[Target]:
    """The models of a plan that have a folder, each once."""
    found: dict[str, Target] = {}
    rows = _rows(plan)
    for stage in plan.stages.values():
        model = model_of_stage(stage, plan.stages)
        if model is None or model.spec.path is None:
            continue
        name = signature(model)
        trainer = cast(Trainer, stage.block) if stage.action == "finetune" else None
        if name not in found or (found[name].trainer is None and trainer is not None):
            found[name] = Target(name, model.spec, trainer, rows)
    for stage in plan.stages.values():
        for binding in (root(b, plan.stages) for b in stage.models.values()):
            if binding.spec.holds and binding.spec.path is not None and signature(binding) not in found:
                found[signature(binding)] = Target(signature(binding), binding.spec, None, rows)
    return list(found.values())


def _rows(plan: Plan) -> tuple[Example, ...]:
    from harness.records.sources import load

    for stage in plan.stages.values():
        if stage.action == "source" and stage.data.format != "rows":
            found = [row for row in islice(load(stage.data), 4 * ROWS) if isinstance(row, Example) and row.messages]
            if found:
                return tuple(found[:ROWS])
    raise UserError("no source of this experiment has conversations, so there is nothing to measure its models with")


def _keep(home: Home, found: Mapping[str, Any]) -> None:
    path: Path = calibration_file(home.prepare())
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        before = {}
    models = dict(before.get("models", {}))
    models |= {name: models.get(name, {}) | rates for name, rates in found["models"].items() if rates}
    write_json(path, {"machine": found["machine"], "models": models, "time": time.time()})


# --- in the worker process --------------------------------------------------------------------------------------------
def _main(connection: Connection, setup: worker.Setup, targets: Sequence[Target]) -> None:
    worker.settle(setup)
    found: dict[str, Any] = {"models": {}, "why": {}, "machine": {"flops": _product_rate(setup.threads)}}
    for target in targets:
        rates: dict[str, float] = {}
        found["models"][target.name] = rates
        try:
            for name, rate in measure(target, setup.threads):
                rates[name] = round(rate, 1)
        except Exception as error:  # noqa: BLE001 - what cannot be measured is told as such, all else is kept
            found["why"][target.name] = f"{type(error).__name__}: {error}"
    connection.send(found)


def measure(target: Target, threads: int) -> Iterator[tuple[str, float]]:
    """Tokens per second by kind of work: `generate`, `score`, and `train` where the plan trains the model.

    Each as soon as it is known: a training that cannot be measured (of pairs, say: the rows are conversations) takes
    nothing from the others.
    """
    from harness.engines import open_engine

    # A home of its own: a reply that a served model gave in an earlier measurement would come back in no time.
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(target.spec, threads=threads, home=Home(Path(folder)))
        try:
            yield from _engine_rates(engine, target.rows).items()
        finally:
            engine.close()
    if target.trainer is not None:
        yield "train", _training_rate(target, threads)


def _engine_rates(engine: OpenEngine, rows: Sequence[Example]) -> dict[str, float]:
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

    return {"generate": _rate(write, len(rows)), "score": _rate(read, len(rows))}


def _training_rate(target: Target, threads: int) -> float:
    """Trained tokens per second by the plan's own trainer, over one epoch, without what starting a training takes."""
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

    return _rate(train, len(target.rows))


def _rate(work: Callable[[int], int], rows: int) -> float:
    """Tokens per second between a small pass and the whole one: what both pay once falls out."""
    few = min(FEW, rows)
    work(few)
    begin = time.perf_counter()
    small = work(few)
    between = time.perf_counter()
    large = work(rows)
    end = time.perf_counter()
    tokens, seconds = large - small, (end - between) - (between - begin)
    return tokens / seconds if tokens > 0 and seconds > 0 else large / (end - between)


def _product_rate(threads: int) -> float:
    """Floating-point operations per second of a square matrix product in float32, on the device of the models."""
    import torch

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one = torch.randn(MATRIX, MATRIX, device=device)
    seconds = []
    for _ in range(PRODUCTS):
        begin = time.perf_counter()
        float((one @ one)[0, 0])  # reading a number waits for the device
        seconds.append(time.perf_counter() - begin)
    return float(2 * MATRIX**3 / min(seconds))
