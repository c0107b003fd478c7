"""How far off forecasts were: noted with each stage as it finishes, and summed up over a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from harness.loop.forecast import Line, epochs_of
from harness.loop.rates import model_of_stage, signature, tokens_of, worked
from harness.loop.stage import Stage

QUANTITIES = ("seconds", "tokens", "memory")
SHORT = 0.5
"""Seconds; stages that are shorter, and were said to be, count in the sums but have no error of their own."""


@dataclass(frozen=True)
class Error:
    """What was said of a quantity and what it was, over several stages."""

    stages: int
    said: float
    was: float
    median: float | None
    """Of the stages' absolute errors, as shares of what it was; None where no stage is long enough to have one."""


def noted(stage: Stage, stages: Mapping[str, Stage], line: Line | None, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a `stage_finished` event says so that later forecasts can learn, and how far off the one before it was."""
    model = model_of_stage(stage, stages)
    planned = getattr(stage.block, "train_tokens", None) is not None  # a budget: how often rows pass is not in options
    about: dict[str, Any] = {
        "model": None if model is None else signature(model),
        "epochs": None if planned else epochs_of(stage),
    }
    if line is None or not manifest.get("timing"):
        return about
    was = {
        "seconds": worked(manifest),
        "tokens": tokens_of(stage.action, manifest.get("cost") or {}) or None,
        "memory": manifest.get("memory"),
    }
    said = {name: getattr(line, name) for name in QUANTITIES}
    errors = {name: _relative(said[name], was[name]) for name in QUANTITIES}
    kept = {name: error for name, error in errors.items() if error is not None}  # whole: `_pair` reckons back from it
    return about | {"forecast": said | {"basis": line.basis}, "forecast_error": kept}


def summed(events: Iterable[Mapping[str, Any]]) -> dict[str, Error]:
    """The errors of the finished stages of a journal by quantity; a stage that was done twice counts as last done."""
    last = {event["key"]: event for event in events if event["event"] == "stage_finished" and event.get("forecast")}
    found = {}
    for name in QUANTITIES:
        pairs = [pair for event in last.values() if (pair := _pair(event, name)) is not None]
        if pairs:
            wrong = [abs(said - was) / was for said, was in pairs if name != "seconds" or max(said, was) >= SHORT]
            sums = (sum(said for said, _ in pairs), sum(was for _, was in pairs))
            found[name] = Error(len(pairs), *sums, median(wrong) if wrong else None)
    return found


def sentence(errors: Mapping[str, Error]) -> str | None:
    """One line for the end of a run; None where nothing was said."""
    seconds = errors.get("seconds")
    if seconds is None:
        return None
    off = {name: error.median for name, error in errors.items() if error.median is not None}
    parts = ", ".join(f"{name} {value:.0%}" for name, value in off.items())
    half = f"; half of the stages are off by at most: {parts}" if parts else ""
    return f"forecast {seconds.said:.0f} s of work, measured {seconds.was:.0f} s{half}"


def to_json(errors: Mapping[str, Error]) -> dict[str, Any]:
    return {name: asdict(error) for name, error in errors.items()}


def _pair(event: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """(said, was): what it was follows from the error, which is (said - was) / was."""
    said, error = event["forecast"].get(name), (event.get("forecast_error") or {}).get(name)
    return None if said is None or error is None or error <= -1 else (float(said), float(said) / (1 + float(error)))


def _relative(said: float | None, was: float | None) -> float | None:
    return None if said is None or not was else (said - was) / was
