"""Were two sets of scores given by the same judge? Its verdicts on the sentinels say (see `harness.loop.sentinels`).

Every grade that a model gave carries the reading of the run that it was made in. Where the readings behind two grades
differ by more than their noise, the judge has changed under its name, and the grades are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations

from harness.analysis.grid import Cell, Grid, SuiteFacts
from harness.records.sentinels import Reading
from harness.stats.drift import Drift, drift

Readings = tuple[Reading, ...]


def readings(grid: Grid, suite: str, split: str = "test", cells: Iterable[Cell] | None = None) -> Readings:
    """The readings behind the grades of a suite, each once, the oldest first; of all cells and the untuned students.

    `cells` limits them to the last iteration of these cells. Empty where no model judged.
    """
    turns = (
        [*(t for c in grid.cells for t in c.turns), *grid.untuned.values()]
        if cells is None
        else [c.last for c in cells]
    )
    keys = dict.fromkeys(turn.grades[suite][split] for turn in turns if split in turn.grades.get(suite, {}))
    raw = [one for key in keys if (m := grid.manifest(key)) is not None for one in m.get("sentinels") or ()]
    found = {(one["run"], one["panel"]): Reading.from_json(one) for one in raw}
    return tuple(sorted(found.values(), key=lambda one: one.taken))


@dataclass(frozen=True)
class Drifted:
    """Two readings between which a metric moved by more than the judge's noise."""

    older: Reading
    newer: Reading
    metric: str
    drift: Drift


def drifted(*sides: Readings) -> Drifted | None:
    """The strongest drift between any two readings of one judge and panel; None where there is none."""
    every = {(one.run, one.panel, one.judge): one for side in sides for one in side}
    ordered = sorted(every.values(), key=lambda one: one.taken)
    tested = [
        Drifted(old, new, metric, drift(old.values[metric], new.values[metric]))
        for old, new in combinations(ordered, 2)
        if (old.panel, old.judge) == (new.panel, new.judge)
        for metric in old.values
        if metric in new.values
    ]
    found = [one for one in tested if one.drift.found(len(tested))]
    return min(found, key=lambda one: one.drift.p or 0.0, default=None)


def unknown(one: Readings, other: Readings) -> bool:
    """True where both sides have readings, but none that can be compared: other frozen answers, as in another home."""
    shared = {(r.panel, r.judge) for r in one} & {(r.panel, r.judge) for r in other}
    return bool(one and other) and not shared


def refusal(suite: SuiteFacts, found: Drifted) -> str:
    """Why scores are not compared, in one paragraph that names the judge and its drift."""
    change, older, newer = found.drift, _when(found.older), _when(found.newer)
    moved = f"{_signed(change.value)} [{_signed(change.low)} {_signed(change.high)}] {found.metric}"
    return (
        f"{suite.name}: the judge {judge_name(suite)} has drifted, so scores from before and after are not compared. "
        f"Asked again about {change.n} answers that were frozen when the suite was first judged here, it gives {moved} "
        f"in the run of {newer} against that of {older} (p {change.p or 0:.2g}; its noise from verdict to verdict is "
        f"{change.noise:.2f}). Give the judge a new `revision:` under `models:` and run again: answers are kept, and "
        "only the verdicts are made anew, by the judge as it is now"
    )


def _signed(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.2f}"


def judge_name(suite: SuiteFacts) -> str:
    """The judge block and the model that it asks."""
    judge: Mapping[str, object] = suite.judge or {}
    model = judge.get("model")
    return f"{judge.get('block', 'of the suite')} (model {model})" if model else str(judge.get("block", "of the suite"))


def _when(reading: Reading) -> str:
    return datetime.fromtimestamp(reading.taken, UTC).strftime("%Y-%m-%d %H:%M UTC")
