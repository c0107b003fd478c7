"""What is known of speeds: from this home's finished stages, from its calibration file, or else from rules.

A model is known by its *root*: a tuned model has the speed of the model that it was tuned from, so all of them share
what was measured. Rates are tokens per second inside engines and trainers, without imports and without opening models.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from harness.engines.base import ModelSpec
from harness.loop.devices import visible_devices
from harness.loop.learned import Point, cost
from harness.loop.sizes import OPERATIONS, Sizes
from harness.loop.stage import Binding, Stage
from harness.store import journal
from harness.store.home import Home

Work = Literal["generate", "score", "train"]
COUNTED: Mapping[Work, tuple[str, str]] = {
    "generate": ("generated_tokens", "engine"),
    "score": ("scored_tokens", "engine"),
    "train": ("train_tokens", "trainer"),
}
"""What counts the tokens of a kind of work, and which timer its seconds."""
MACHINE: Mapping[str, Mapping[Work, float]] = {
    "cpu": {"generate": 1.5e10, "score": 4e10, "train": 4e10},
    "cuda": {"generate": 2e13, "score": 2e14, "train": 2e14},
}
"""Rules: floating-point operations per second that each kind of work reaches on one core, and on one large GPU."""
LEAST = 0.1
"""Share of a stage's work from which on its times tell something of the whole."""
MODEL_WORK: Mapping[str, Work] = {"synthesize": "generate", "answer": "generate", "score": "score", "finetune": "train"}


@dataclass(frozen=True)
class Rate:
    """Tokens per second, and where the number comes from: `history`, `calibration` or `rule`."""

    tokens_per_second: float
    source: str


def root(binding: Binding, stages: Mapping[str, Stage]) -> Binding:
    """The model that a trained model comes from, back to one that the experiment names."""
    while binding.stage is not None and (made := stages.get(binding.stage)) is not None and made.models:
        binding = made.models.get(made.roles.get("start", ""), next(iter(made.models.values())))
    return binding


def model_of_stage(stage: Stage, stages: Mapping[str, Stage]) -> Binding | None:
    """The root of the model that a stage spends its time on; None where it has none of this machine."""
    role = stage.roles.get("start") if stage.action == "finetune" else None
    chosen = [stage.models[role]] if role is not None else list(stage.models.values())
    found = [root(binding, stages) for binding in chosen]
    return next((binding for binding in found if binding.spec.holds), None)


def answers_tuned(stage: Stage) -> bool:
    """Whether it answers with a model that the plan trains: its answers are of another length than its root's."""
    return stage.action == "answer" and any(binding.stage is not None for binding in stage.models.values())


def work_of(stage: Stage) -> str:
    """The name of a stage's work, under which calibration keeps its tokens per row."""
    return f"{stage.action} {stage.name}{' tuned' if answers_tuned(stage) else ''}"


def product_of(spec: ModelSpec) -> str:
    """The name of the matrix product that a model's arithmetic is of: its kind of device and number format."""
    device = str(spec.device or "auto")
    gpu = device.startswith("cuda") or (device == "auto" and bool(visible_devices()))
    return f"{'cuda' if gpu else 'cpu'} {spec.dtype}"


def signature(binding: Binding) -> str:
    """Names a model with all that its speed hangs on besides the machine."""
    spec = binding.spec
    return f"{binding.stage or spec.revision}:{spec.engine}:{spec.dtype}:{spec.device}"


@dataclass
class Seen:
    """What finished stages of one action, block and model took: seconds are without imports and opening."""

    by_rows: list[Point] = field(default_factory=list)
    """Rows (times epochs, for a training) and seconds."""
    by_tokens: list[Point] = field(default_factory=list)
    """Tokens and seconds, of those that count tokens."""
    tokens: list[float] = field(default_factory=list)
    """Per row (per row and epoch for a training)."""
    memory: list[int] = field(default_factory=list)


class Rates:
    """All that a home knows."""

    def __init__(self, home: Home) -> None:
        self._seen: dict[tuple[str, str, str], Seen] = defaultdict(Seen)
        self._spent: dict[tuple[str, Work], list[Point]] = defaultdict(list)
        self.calibrated: Mapping[str, Any] = _calibration(home)
        for path in sorted(home.journal.glob("*.jsonl")) if home.journal.exists() else []:
            self._add(journal.read(path))

    def seen(self, action: str, block: str, model: str | None) -> Seen | None:
        """What is known of stages of this action and block on this model; None where none has finished."""
        return self._seen.get((action, block, model or ""))

    def seen_elsewhere(self, action: str, block: str) -> Seen | None:
        """The same with any model: how many tokens a row has, say."""
        found = [seen for (a, b, _), seen in self._seen.items() if (a, b) == (action, block)]
        return Seen(tokens=[t for f in found for t in f.tokens]) if found else None

    def rate(self, model: Binding, work: Work, sizes: Sizes | None) -> Rate | None:
        """Tokens per second of a kind of work; None where not even the model's size is known."""
        unlearned = self.unlearned(model, work, sizes)
        if done := self._spent.get((signature(model), work)):
            shown = cost(done, None if unlearned is None else 1 / unlearned.tokens_per_second, bounded=False)
            return Rate(1 / shown.each, "history")
        return unlearned

    def unlearned(self, model: Binding, work: Work, sizes: Sizes | None) -> Rate | None:
        """The same without what finished stages show: from calibration, else from rules."""
        measured = self.calibrated.get("models", {}).get(signature(model), {}).get(work)
        if measured:
            return Rate(float(measured), "calibration")
        if sizes is None:
            return None
        return Rate(self.machine(model.spec, work) / (OPERATIONS[work] * sizes.parameters), "rule")

    def calibrated_tokens(self, stage: Stage, model: Binding) -> float | None:
        """Tokens per row that calibration found of a stage's block on this model, or of other work of its kind."""
        found = self.calibrated.get("tokens", {}).get(signature(model), {})
        each = found.get(work_of(stage)) or found.get(MODEL_WORK.get(stage.action))
        return float(each) if each else None

    def calibrated_memory(self, model: Binding, work: Work) -> int | None:
        """Bytes that the measuring process, and those of its engine, took at most in a kind of work."""
        most = self.calibrated.get("memory", {}).get(signature(model), {}).get(work)
        return int(most) if most else None

    def machine(self, spec: ModelSpec, work: Work) -> float:
        """Floating-point operations per second that a kind of work reaches here.

        Of a measured matmul rate two fifths, and where tokens are written one by one a tenth; else from `MACHINE`.
        """
        products = self.calibrated.get("machine", {}).get("flops")
        if isinstance(products, Mapping) and (measured := products.get(product_of(spec))):
            return float(measured) * (0.1 if work == "generate" else 0.4)
        return MACHINE[product_of(spec).split()[0]][work]

    def _add(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            if event["event"] == "stage_finished" and event.get("timing") and event.get("action"):
                self._finished(event)

    def _finished(self, event: Mapping[str, Any]) -> None:
        counts, timing, model = event.get("cost") or {}, event["timing"], str(event.get("model") or "")
        epochs = event.get("epochs", 1.0)
        rows = max(1, int(event.get("rows") or 1)) * float(epochs or 1)
        tokens = tokens_of(event["action"], counts)
        seen = self._seen[event["action"], event["block"], model]
        if (whole := worked(event)) is not None:
            seen.by_rows.append((rows, whole))
            seen.by_tokens += [(tokens, whole)] if tokens else []
        if tokens and epochs is not None:
            seen.tokens.append(tokens / rows)
        if event.get("memory"):
            seen.memory.append(int(event["memory"]))
        work = MODEL_WORK.get(event["action"])
        if model and work is not None and (share := _share(event)) >= LEAST:
            counted, timer = COUNTED[work]
            if counts.get(counted) and timing.get(timer):
                self._spent[model, work].append((share * float(counts[counted]), float(timing[timer])))


def worked(told: Mapping[str, Any]) -> float | None:
    """Seconds that a stage's own work took: imports and the opening of models are paid once for many.

    `told` is its manifest or its event. Where its times are those of a `share` of the work, they are reckoned for all
    of it; None where that share is too small to tell.
    """
    timing, share = told["timing"], _share(told)
    seconds = float(timing["wall"] - timing.get("import", 0.0) - timing.get("open", 0.0))
    return seconds / share if share >= LEAST else None


def _share(told: Mapping[str, Any]) -> float:
    share = told.get("share")
    return 1.0 if share is None else float(share)


def tokens_of(action: str, cost: Mapping[str, Any]) -> int:
    """Tokens that a stage wrote, scored or trained."""
    work = MODEL_WORK.get(action)
    return int(cost.get(COUNTED[work][0]) or 0) if work is not None else 0


def typical(values: Iterable[float]) -> float | None:
    """The median; None of nothing."""
    found = list(values)
    return median(found) if found else None


def calibration_file(home: Home) -> Any:
    """Where a home keeps what `plan --calibrate` measured."""
    return home.path / "calibration.json"


def _calibration(home: Home) -> Mapping[str, Any]:
    try:
        found = json.loads(calibration_file(home).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
