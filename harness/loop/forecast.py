"""What a plan will cost, before anything is spent: rows, tokens, seconds and money per stage.

Rows are followed through the recipe: what a source holds, what an option keeps. Seconds come from this home's own
history where a stage of the same action and block has run before, scaled by rows; otherwise from rates measured on two
CPU cores with the pocket models, which a plan says.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.loop.calls import Calls, Trials
from harness.loop.devices import default_workers
from harness.loop.plan import Plan
from harness.loop.stage import Stage
from harness.records.values import Amount
from harness.store import journal
from harness.store.artifacts import MANIFEST, Store
from harness.store.home import Home
from harness.store.spent import Ledger

RULE_SECONDS = {
    "source": 0.2,
    "scratch": 3.0,
    "synthesize": 4.0,
    "score": 2.0,
    "select": 0.3,
    "pair": 0.2,
    "leaks": 0.3,
    "clean": 0.2,
    "finetune": 6.0,
    "choose": 0.2,
    "answer": 2.5,
    "grade": 0.4,
}
TOKENS_PER_ROW = 60
"""Tokens of a row where no history tells: a pocket conversation."""


@dataclass(frozen=True)
class Line:
    """The forecast of one stage; `rows` and `tokens` are None where they cannot be known yet."""

    key: str
    action: str
    block: str
    label: str
    done: bool
    rows: int | None
    tokens: int | None
    seconds: float
    served: tuple[Calls, ...] = ()
    """What it asks of served models, if it still has to run."""


@dataclass(frozen=True)
class Money:
    """What served models will cost in US dollars; None where one of them has no prices.

    `most_usd` takes every answer as long as its limit allows. What the cache of replies holds already costs nothing,
    and cannot be known before the answers are there.
    """

    usd: float | None
    most_usd: float | None
    spent_usd: float
    limit_usd: float | None
    served: tuple[Calls, ...]
    """Sums by role and model."""


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
    store, history = Store(home), _history(home)
    rows: dict[str, int | None] = {}
    spent = Ledger(home.spent_file(plan.experiment.name)).spent()
    trials = Trials(spent.completion_tokens / spent.calls if spent.calls else None)
    lines = [_line(stage, store, rows, history, trials) for stage in plan.stages.values()]
    left = sum(line.seconds for line in lines if not line.done)
    count = workers or default_workers()
    known = any((line.action, line.block) in history for line in lines)
    basis = "from this home's own runs" if known else "from rates measured with the pocket models on 2 cores"
    limits = plan.experiment.limits
    money = _money(lines, spent.usd, limits.usd if limits is not None else None)
    return Forecast(tuple(lines), count, left / max(1, count), basis, said(money), money)


def _money(lines: Iterable[Line], spent: float, limit: float | None) -> Money:
    sums: dict[tuple[str, str], Calls] = {}
    for calls in (calls for line in lines for calls in line.served):
        before = sums.get((calls.role, calls.model))
        sums[calls.role, calls.model] = calls if before is None else before.plus(calls)
    usd = [calls.usd for calls in sums.values()]
    most = [calls.most_usd for calls in sums.values()]
    return Money(_total(usd), _total(most), spent, limit, tuple(sums.values()))


def _total(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def said(money: Money) -> str:
    """The forecast of money as one line."""
    if not money.served:
        return "0 (no served model is asked)" + (f"; {money.spent_usd:.2f} USD spent" if money.spent_usd else "")
    parts = [
        f"{c.role} {c.model}: {c.calls:,} calls, {c.prompt_tokens:,} + {c.completion_tokens:,} tokens"
        + (f", and those of {c.uncounted} stages that cannot be counted now ({c.why})" if c.uncounted else "")
        for c in money.served
    ]
    if any(c.uncounted for c in money.served):
        text = f"not known ({'; '.join(parts)})"
    elif money.usd is None or money.most_usd is None:
        text = f"not known, a served model has no prices ({'; '.join(parts)})"
    else:
        text = f"about {money.usd:.2f} USD, at most {money.most_usd:.2f} ({'; '.join(parts)})"
    if money.spent_usd:
        text += f"; {money.spent_usd:.2f} spent before"
    if money.limit_usd is not None:
        text += f"; limits.usd is {money.limit_usd:g}"
        if money.usd is not None and money.spent_usd + money.usd > money.limit_usd:
            text += ", which will not be enough"
    return text


def _line(
    stage: Stage,
    store: Store,
    rows: dict[str, int | None],
    history: Mapping[tuple[str, str], float],
    trials: Trials,
) -> Line:
    done = store.done(stage.kind, stage.key)
    count = _written(store.path(stage.kind, stage.key)) if done else _rows(stage, rows)
    rows[stage.key] = count
    served = () if done else tuple(trials.calls_of(stage, count))
    tokens = (
        None
        if count is None or stage.action not in ("synthesize", "finetune", "answer", "score")
        else _tokens(stage, count)
    )
    rate = history.get((stage.action, stage.name))
    seconds = RULE_SECONDS[stage.action] if rate is None else rate * max(1, count or 1)
    if served:
        tokens = sum(calls.prompt_tokens + calls.completion_tokens for calls in served)
    seconds = 0.0 if done else seconds
    return Line(stage.key, stage.action, stage.name, stage.label, done, count, tokens, seconds, served)


def _written(folder: Path) -> int | None:
    """Rows of a finished artifact; None where its manifest is damaged: a forecast repairs nothing."""
    try:
        return int(json.loads((folder / MANIFEST).read_text()).get("rows", 0))
    except (OSError, ValueError):
        return None


def _rows(stage: Stage, rows: Mapping[str, int | None]) -> int | None:
    if stage.action == "source":
        limit = stage.data.rows or stage.data.options.get("rows")
        return int(limit) if limit else None
    options = stage.block.model_dump() if stage.block is not None else {}
    if stage.action == "synthesize" and isinstance(options.get("rows"), int):
        return int(options["rows"])
    total = 0
    for source in stage.inputs:
        given = rows.get(source.key)
        if given is None:
            return None
        part = given if source.slice is None else given // source.slice[1]
        total += part if source.share is None else round(part * source.share)
    if stage.action == "select" and (expects := getattr(stage.block, "expects", None)) is not None:
        return int(expects(total))
    keep = getattr(stage.block, "keep", None)
    return keep.of(total) if stage.action == "select" and isinstance(keep, Amount) else total


def _tokens(stage: Stage, rows: int) -> int:
    epochs = float(getattr(stage.block, "epochs", None) or 1) if stage.action == "finetune" else 1.0
    return round(rows * TOKENS_PER_ROW * epochs)


def _history(home: Home) -> dict[tuple[str, str], float]:
    """Median seconds per row, without imports, by (action, block) of all stages that finished in this home."""
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in sorted(home.journal.glob("*.jsonl")) if home.journal.exists() else []:
        for event in journal.read(path):
            if event["event"] == "stage_finished" and event.get("timing") and event.get("action"):
                timing = event["timing"]
                work = timing["wall"] - timing.get("import", 0.0) - timing.get("open", 0.0)
                seen[event["action"], event["block"]].append(work / max(1, int(event.get("rows") or 1)))
    return {name: median(values) for name, values in seen.items()}
