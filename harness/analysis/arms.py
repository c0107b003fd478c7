"""Arms as arrays: values of one recipe, suite and metric as (runs, items), aligned so that they can be paired."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import CannotTell
from harness.stats import MIN_RUNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

Run = tuple[int, int]
"""(data seed, training seed)"""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """`values` has shape (runs, items, judge repeats), NaN where missing; rows follow `runs`, columns `ids`."""

    recipe: str
    runs: tuple[Run, ...]
    ids: tuple[str, ...]
    clusters: tuple[Hashable, ...]
    values: Floats

    def only(self, runs: tuple[Run, ...]) -> Floats:
        """The values of some runs, in their order; averaged over training seeds where data draws are the runs."""
        place = {run: index for index, run in enumerate(self.runs)}
        return over_draws(self.values[[place[run] for run in runs]], runs)

    def all(self) -> Floats:
        """The values of all runs; see `only`."""
        return over_draws(self.values, self.runs)


def arm_of(frame: pd.DataFrame, recipe: str) -> Arm:
    """The arm of a frame that holds one recipe, student, iteration, suite and metric.

    Rows with the same `id` in one run are repeats of the judge.

    Raises:
        CannotTell: no row, or runs that graded different items.
    """
    import numpy as np

    if frame.empty:
        raise CannotTell(f"{recipe} has no grades yet")
    keys = list(zip(frame["data_seed"].tolist(), frame["seed"].tolist(), strict=True))
    runs: tuple[Run, ...] = tuple(sorted(set(keys)))
    first = frame.drop_duplicates("id")
    ids, clusters = tuple(first["id"]), tuple(first["cluster"])
    row = {run: index for index, run in enumerate(runs)}
    column = {name: index for index, name in enumerate(ids)}
    rows, columns = np.array([row[k] for k in keys]), np.array([column[i] for i in frame["id"]])
    repeat: npt.NDArray[Any] = np.zeros(len(frame), dtype=np.int64)
    if len(frame) > len(runs) * len(ids):
        repeat = frame.groupby(["data_seed", "seed", "id"], sort=False).cumcount().to_numpy()
    seen = np.zeros((len(runs), len(ids)), dtype=bool)
    seen[rows, columns] = True
    if not seen.all():
        run = runs[int(np.argmin(seen.all(axis=1)))]
        count = int((~seen[row[run]]).sum())
        raise CannotTell(f"{recipe}: seed {run[1]} lacks {count} of {len(ids)} items that other seeds graded")
    values = np.full((len(runs), len(ids), int(repeat.max()) + 1), np.nan)
    values[rows, columns, repeat] = frame["value"].to_numpy()
    return Arm(recipe=recipe, runs=runs, ids=ids, clusters=clusters, values=values)


def aligned(arm: Arm, ids: tuple[str, ...], other: str) -> Arm:
    """The arm with its columns in the order of `ids`.

    Raises:
        CannotTell: the item sets differ; names items that only one side has.
    """
    if arm.ids == ids:
        return arm
    mine, theirs = set(arm.ids), set(ids)
    if mine != theirs:
        only, missing = sorted(mine - theirs), sorted(theirs - mine)
        parts = [f"{len(only)} only in {arm.recipe} (such as {only[0]})"] if only else []
        parts += [f"{len(missing)} only in {other} (such as {missing[0]})"] if missing else []
        raise CannotTell(
            f"{arm.recipe} and {other} were scored on different items, so they cannot be compared: {', '.join(parts)}"
        )
    place = {name: index for index, name in enumerate(arm.ids)}
    order = [place[name] for name in ids]
    clusters = tuple(arm.clusters[index] for index in order)
    return Arm(recipe=arm.recipe, runs=arm.runs, ids=ids, clusters=clusters, values=arm.values[:, order])


def common_runs(a: Arm, b: Arm) -> tuple[Run, ...]:
    """The runs that both arms have: these are the pairs."""
    return tuple(run for run in a.runs if run in set(b.runs))


def draws(runs: tuple[Run, ...]) -> int:
    """The number of data draws among some runs."""
    return len({data for data, _ in runs})


def over_draws(values: Floats, runs: tuple[Run, ...]) -> Floats:
    """With three or more data draws, one row per draw (the mean over its training seeds), as draws are then the unit.

    Training seeds within a draw share its data, so they are not independent of each other. With one or two draws each
    run stays a row of its own, and the result speaks of these draws.
    """
    import numpy as np

    if draws(runs) < MIN_RUNS:
        return values
    names = sorted({data for data, _ in runs})
    return np.stack([values[[i for i, (data, _) in enumerate(runs) if data == name]].mean(axis=0) for name in names])
