"""A short measured pass per model of a plan, in a worker process: how fast it writes, reads and trains here.

How many tokens a row of the plan's stages takes, and how much memory the process took, are kept besides: all of it in
the home's `calibration.json`, by the model's signature (`harness.loop.rates.signature`), with the rate of a plain
matrix product. Forecasts use it where the home has no finished stages of that model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

from harness.blocks.kinds import Trainer
from harness.errors import UserError
from harness.loop import forked, measure, worker
from harness.loop.devices import visible_devices
from harness.loop.measure import ROWS, Quantity, Target
from harness.loop.plan import Plan
from harness.loop.rates import MODEL_WORK, calibration_file, model_of_stage, root, signature, work_of
from harness.records.example import Example
from harness.store.atomic import write_json
from harness.store.home import Home


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
    process = context.Process(target=measure.main, args=(theirs, setup, targets), name="loopbench-calibration")
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
        before = found.get(name, Target(name, model.spec, None, rows))
        known = {work_of(one) for one in before.stages}
        more = (stage,) if stage.action in MODEL_WORK and work_of(stage) not in known else ()
        found[name] = replace(before, trainer=before.trainer or trainer, stages=before.stages + more)
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
        before = _mapping(json.loads(path.read_text()))
    except (OSError, ValueError):
        before = {}
    kept: dict[str, Any] = {}
    for quantity in ("machine", *get_args(Quantity)):
        old = _mapping(before.get(quantity))
        new = {name: values for name, values in found.get(quantity, {}).items() if values}
        kept[quantity] = old | {name: _mapping(old.get(name)) | values for name, values in new.items()}
    write_json(path, kept | {"time": time.time()})


def _mapping(value: Any) -> dict[str, Any]:
    """What a file holds in a place; nothing where it has another form there, as files of earlier versions may."""
    return value if isinstance(value, dict) else {}
