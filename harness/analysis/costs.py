"""What each arm took: rows, tokens, dropped rows by reason, time per further seed, from the stages' manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.grid import Grid

_DATA = ("synthesize", "score", "select", "pair", "clean")


@dataclass(frozen=True, kw_only=True)
class ArmCost:
    """Tokens and rows are means per cell, over all iterations; `dropped` counts rows over the whole grid, each once.

    `seconds_per_seed` is the measured worker time of what one further training seed would run. `unfinished` counts
    stages without a result.
    """

    rows: int = 0
    train_tokens: int = 0
    generated_tokens: int = 0
    judged_tokens: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    seconds_per_seed: float | None = None
    unfinished: int = 0


def arm_cost(grid: Grid, recipe: str, student: str) -> ArmCost:
    """The cost of one arm; what other arms share counts in full for each of them."""
    cells = grid.cells_of(recipe, student)
    uses = Counter(key for cell in cells for key in cell.stage_keys())
    manifests = {key: found for key in uses if (found := grid.manifest(key)) is not None}

    def per_cell(action: Iterable[str], name: str) -> int:
        chosen = [key for key in manifests if grid.stages[key]["action"] in action]
        return round(sum(uses[key] * _cost(manifests[key], name) for key in chosen) / max(1, len(cells)))

    trained = [key for key in manifests if grid.stages[key]["action"] == "finetune"]
    return ArmCost(
        rows=round(sum(uses[key] * int(manifests[key].get("rows") or 0) for key in trained) / max(1, len(cells))),
        train_tokens=per_cell(["finetune"], "train_tokens"),
        generated_tokens=per_cell(_DATA, "generated_tokens"),
        judged_tokens=per_cell(["grade"], "judged_tokens"),
        dropped=_dropped(grid, manifests),
        seconds_per_seed=_seconds(manifests, uses, len({(c.data_seed, c.seed) for c in cells})),
        unfinished=len(uses) - len(manifests),
    )


def _cost(manifest: Mapping[str, Any], name: str) -> int:
    return int((manifest.get("cost") or {}).get(name) or 0)


def _dropped(grid: Grid, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for key, manifest in manifests.items():
        if grid.stages[key]["action"] in _DATA:
            counts.update(manifest.get("dropped") or {})
    return dict(counts.most_common())


def _seconds(manifests: Mapping[str, Mapping[str, Any]], uses: Mapping[str, int], runs: int) -> float | None:
    """Wall seconds of the stages that only one cell uses, per run; None where nothing was timed."""
    walls = [float((m.get("timing") or {}).get("wall") or 0.0) for key, m in manifests.items() if uses[key] == 1]
    return sum(walls) / runs if runs and any(walls) else None


def spent(grid: Grid) -> dict[str, int]:
    """Tokens generated for data per model role, and tokens judged, over the whole grid; a shared stage counts once."""
    counts: Counter[str] = Counter()
    for key, stage in grid.stages.items():
        manifest = grid.manifest(key)
        if manifest is None:
            continue
        if stage["action"] == "grade":
            counts["judge"] += _cost(manifest, "judged_tokens")
        elif stage["action"] in _DATA and (tokens := _cost(manifest, "generated_tokens")):
            counts[_generator(stage)] += tokens
    return {"judge": 0} | dict(counts)


def _generator(stage: Mapping[str, Any]) -> str:
    """The role of the model that wrote: the stage's only one, or all of them."""
    return "+".join(stage.get("models") or {}) or "models"


def engines(grid: Grid, recipe: str, student: str) -> frozenset[tuple[str, str]]:
    """(engine, dtype) of the models that answered in one arm."""
    keys = {key for cell in grid.cells_of(recipe, student) for key in cell.stage_keys()}
    return frozenset(
        (str(model["engine"]), str(model["dtype"]))
        for key in keys
        if grid.stages[key]["action"] == "answer"
        for model in (grid.stages[key].get("models") or {}).values()
    )


def overrides(grid: Grid) -> dict[str, dict[str, Any]]:
    """Per recipe, the training options in which it departs from the experiment's `train:`, as `step.option`."""
    train = grid.resolved.get("train") or {}
    result: dict[str, dict[str, Any]] = {}
    for recipe in grid.resolved.get("recipes") or ():
        for step in recipe.get("steps") or ():
            if "finetune" not in step:
                continue
            name = step.get("as") or step["finetune"]
            own = {f"{name}.{key}": step[key] for key, value in train.items() if key in step and step[key] != value}
            result.setdefault(str(recipe["recipe"]), {}).update(own)
    return {recipe: changes for recipe, changes in result.items() if changes}


def failed_stages(grid: Grid, events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Stages whose last word in the journal was a failure: label to reason."""
    return {str(grid.stages[key]["label"]): why for key, why in failures(events).items() if key in grid.stages}


def failures(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Stage key to reason, for every stage whose last word in the journal was a failure."""
    failed: dict[str, str] = {}
    for event in events:
        key = event.get("key")
        if event["event"] == "stage_failed":
            failed[str(key)] = str(event.get("why", "failed"))
        elif event["event"] in ("stage_started", "stage_finished"):
            failed.pop(str(key), None)
    return failed
