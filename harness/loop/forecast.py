"""What a plan will cost, before anything is spent: rows, tokens, seconds, memory and money per stage.

Rows are followed through the recipe: what a source holds, what an option keeps. Tokens and seconds come from what this
home has measured of the same action, block and model; else from its calibration (`plan --calibrate`); else from rules:
floating-point operations over what a machine usually reaches. Each line says from which, and the run notes how far off
it was (`harness.loop.foretold`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.loop.calls import Calls, Trials
from harness.loop.devices import default_workers, visible_devices
from harness.loop.expected import Expected
from harness.loop.learned import cost
from harness.loop.money import Money, money, said
from harness.loop.plan import Plan
from harness.loop.rates import MODEL_WORK, Rate, Rates, Seen, model_of_stage, signature, typical
from harness.loop.sizes import LIBRARIES, Sizes, sizes_of
from harness.loop.stage import Binding, Stage
from harness.store.artifacts import MANIFEST, Store
from harness.store.home import Home
from harness.store.spent import Ledger

RULE_SECONDS = {
    "source": 0.3,
    "scratch": 3.0,
    "synthesize": 0.3,
    "score": 0.2,
    "select": 0.1,
    "pair": 0.1,
    "leaks": 0.3,
    "clean": 0.2,
    "finetune": 0.5,
    "choose": 0.2,
    "answer": 0.2,
    "grade": 0.2,
}
"""What a stage takes besides engines and trainers, where no history tells."""
ROW_TOKENS = {"pocket": 60}
OTHER_TOKENS = 400
"""Tokens of a row where no history tells, by the model's prompt pack: a pocket conversation, one of a chat model."""
BASIS = {
    "history": "from this home's own runs",
    "calibration": "from this home's calibration",
    "rule": "from rules, not from measurements: `loopbench plan --calibrate` measures",
}


@dataclass(frozen=True)
class Line:
    """The forecast of one stage; `rows`, `tokens` and `memory` are None where they cannot be known yet."""

    key: str
    action: str
    block: str
    label: str
    done: bool
    rows: int | None
    tokens: int | None
    seconds: float
    memory: int | None = None
    """Bytes that the worker, and processes that its models run in, hold at most, their libraries included."""
    basis: str = "rule"
    """Where seconds come from: `history`, `calibration` or `rule`."""
    tokens_basis: str | None = None
    """Where tokens come from: also `plan`, where its budget or its suites say themselves; None where not known."""
    memory_basis: str | None = None
    served: tuple[Calls, ...] = ()
    """What it asks of served models, if it still has to run."""


@dataclass(frozen=True)
class Forecast:
    """The forecast of a plan. `wall` is in seconds, with all workers busy."""

    stages: tuple[Line, ...]
    workers: int
    wall: float
    basis: str
    money: str
    spending: Money

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def forecast(plan: Plan, home: Home, workers: int | None = None) -> Forecast:
    """Follows rows through the plan and sums what is left."""
    spent = Ledger(home.spent_file(plan.experiment.name)).spent()
    trials = Trials(spent.completion_tokens / spent.calls if spent.calls else None)
    view = _View(plan, Store(home), Rates(home), trials)
    lines = [view.line(stage) for stage in plan.stages.values()]
    left = sum(line.seconds for line in lines if not line.done)
    count = workers or default_workers()
    longest = {basis: sum(line.seconds for line in lines if line.basis == basis) for basis in BASIS}
    basis = BASIS[max(longest, key=lambda name: longest[name])]
    limits = plan.experiment.limits
    served = (calls for line in lines for calls in line.served)
    spending = money(served, spent.usd, limits.usd if limits is not None else None)
    return Forecast(tuple(lines), count, left / max(1, count), basis, said(spending), spending)


class _View:
    """What a forecast of one plan looks at; stages are asked for parents first."""

    def __init__(self, plan: Plan, store: Store, rates: Rates, trials: Trials) -> None:
        self.stages, self.store, self.rates, self.trials = plan.stages, store, rates, trials
        self.expected = Expected(plan.stages)
        self.sizes: dict[str, Sizes | None] = {}

    def line(self, stage: Stage) -> Line:
        done = self.store.done(stage.kind, stage.key)
        count = _written(self.store.path(stage.kind, stage.key)) if done else self.expected.of(stage)
        self.expected.rows[stage.key] = count
        about: dict[str, Any] = {
            "key": stage.key,
            "action": stage.action,
            "block": stage.name,
            "label": stage.label,
            "done": done,
        }
        if done:
            return Line(**about, rows=count, tokens=None, seconds=0.0)
        model = model_of_stage(stage, self.stages)
        size = None if model is None else self._size(model)
        served = tuple(self.trials.calls_of(stage, count))
        tokens, tokens_basis = self._tokens(stage, count, model)
        seconds, basis = self._seconds(stage, count, tokens, model, size)
        if served:
            tokens, tokens_basis = sum(calls.prompt_tokens + calls.completion_tokens for calls in served), "plan"
        memory, memory_basis = self._memory(stage, model, size)
        about |= {"seconds": seconds, "basis": basis, "tokens_basis": tokens_basis, "memory_basis": memory_basis}
        return Line(**about, rows=count, tokens=tokens, memory=memory, served=served)

    def _size(self, model: Binding) -> Sizes | None:
        name = signature(model)
        if name not in self.sizes:
            self.sizes[name] = sizes_of(model.spec)
        return self.sizes[name]

    def _tokens(self, stage: Stage, rows: int | None, model: Binding | None) -> tuple[int | None, str | None]:
        if stage.action == "finetune" and (planned := getattr(stage.block, "train_tokens", None)) is not None:
            return int(planned), "plan"  # a budget says where training ends, whatever its rows are
        if rows is None or stage.action not in MODEL_WORK or model is None:
            return None, None
        each, basis = self._each(stage, model)
        return round(rows * epochs_of(stage) * each), basis

    def _each(self, stage: Stage, model: Binding) -> tuple[float, str]:
        """Tokens per row. What other models took comes last: they have other tokenizers, and maybe had other rows."""
        seen = self.rates.seen(stage.action, stage.name, signature(model))
        if seen is not None and (each := typical(seen.tokens)) is not None:
            return each, "history"
        if (each := self.rates.calibrated_tokens(stage, model)) is not None:
            return _longest(stage, each), "calibration"
        elsewhere = self.rates.seen_elsewhere(stage.action, stage.name)
        if elsewhere is not None and (each := typical(elsewhere.tokens)) is not None:
            return each, "history"
        usual = ROW_TOKENS.get(model.spec.prompt_pack, OTHER_TOKENS)
        return _longest(stage, usual / (2 if stage.action == "answer" else 1)), "rule"

    def _seconds(
        self, stage: Stage, rows: int | None, tokens: int | None, model: Binding | None, size: Sizes | None
    ) -> tuple[float, str]:
        work = MODEL_WORK.get(stage.action)
        seen = self.rates.seen(stage.action, stage.name, None if model is None else signature(model))
        if seen is not None and seen.by_rows:
            known = None if work is None or model is None else self.rates.unlearned(model, work, size)
            return _learned(stage, seen, rows, tokens, known), "history"
        rule = RULE_SECONDS[stage.action]
        rate = None if work is None or model is None else self.rates.rate(model, work, size)
        if rate is None:
            return rule, "rule"
        return rule + (tokens or 0) / rate.tokens_per_second, rate.source

    def _memory(self, stage: Stage, model: Binding | None, size: Sizes | None) -> tuple[int | None, str | None]:
        seen = self.rates.seen(stage.action, stage.name, None if model is None else signature(model))
        if seen is not None and seen.memory:
            return max(seen.memory), "history"
        if model is None or (work := MODEL_WORK.get(stage.action)) is None:
            return LIBRARIES, "rule"
        if (most := self.rates.calibrated_memory(model, work)) is not None:
            return most, "calibration"
        libraries = 0 if visible_devices() else LIBRARIES  # a GPU's memory is what counts there
        return (None, None) if size is None else (libraries + _held(stage, model, size), "rule")


def _learned(stage: Stage, seen: Seen, rows: int | None, tokens: int | None, known: Rate | None) -> float:
    """Seconds by what stages like it took, by their tokens where they count any, else by their rows."""
    size = max(1, rows or 1) * epochs_of(stage)
    each = None if known is None else 1 / known.tokens_per_second
    if tokens and seen.by_tokens:
        return cost(seen.by_tokens, each).of(tokens)
    by_row = None if each is None or not tokens else each * tokens / size
    served = any(binding.spec.remote for binding in stage.models.values())
    return cost(seen.by_rows, by_row, bounded=not served).of(size)


def _held(stage: Stage, model: Binding, size: Sizes) -> int:
    """Bytes of a model at work, by rule."""
    length = ROW_TOKENS.get(model.spec.prompt_pack, OTHER_TOKENS)
    if stage.action == "score":
        return size.scoring(length)
    if stage.action != "finetune":
        return size.generating(2 * length)
    block: Any = stage.block
    batch = int(getattr(block, "batch_size", 16))
    longest = int(getattr(block, "max_length", 1024)) if getattr(block, "packing", False) else 2 * length
    adapters, recompute = (
        getattr(block, "lora", None) is not None,
        bool(getattr(block, "gradient_checkpointing", False)),
    )
    return size.training(batch * longest, adapters=adapters, recompute=recompute)


def epochs_of(stage: Stage) -> float:
    """How often a training sees each row; 1 for other stages."""
    return float(getattr(stage.block, "epochs", None) or 1) if stage.action == "finetune" else 1.0


def _longest(stage: Stage, usual: float) -> float:
    limit = getattr(stage.block, "max_tokens", None) if stage.action in ("answer", "synthesize") else None
    return min(usual, float(limit)) if isinstance(limit, int) else usual


def _written(folder: Path) -> int | None:
    """Rows of a finished artifact; None where its manifest is damaged: a forecast repairs nothing."""
    try:
        return int(json.loads((folder / MANIFEST).read_text()).get("rows", 0))
    except (OSError, ValueError):
        return None
