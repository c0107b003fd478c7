"""Arms as arrays: values of one recipe, suite and metric as (runs, items), aligned so that they can be paired."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
    """`values` has shape (runs, items, judge repeats), NaN where missing; rows follow `runs`, columns `ids`.

    `items` and `clusters` are aligned with `ids`: the item that a grade is of, and what joins dependent ones. `flagged`
    are the items with a suspect answer in at least one run.
    """

    recipe: str
    runs: tuple[Run, ...]
    ids: tuple[str, ...]
    clusters: tuple[Hashable, ...]
    values: Floats
    items: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()

    def without(self, items: Collection[str]) -> Arm:
        """The arm without the grades of some items.

        Raises:
            CannotTell: none is left.
        """
        kept = [place for place, item in enumerate(self.items) if item not in items]
        if not kept:
            raise CannotTell(f"all {len(self.ids)} items of {self.recipe} would be left out")
        return replace(
            self,
            ids=tuple(self.ids[place] for place in kept),
            items=tuple(self.items[place] for place in kept),
            clusters=tuple(self.clusters[place] for place in kept),
            values=self.values[:, kept],
        )

    def only(self, runs: tuple[Run, ...]) -> Floats:
        """The values of some runs, in their order; averaged over training seeds where data draws are the runs."""
        place = {run: index for index, run in enumerate(self.runs)}
        return over_draws(self.values[[place[run] for run in runs]], runs)

    def all(self) -> Floats:
        """The values of all runs; see `only`."""
        return over_draws(self.values, self.runs)


def arm_of(frame: pd.DataFrame, recipe: str) -> Arm:
    """The arm of a frame that holds one recipe, student, iteration, suite and metric.

    Rows with the same `id` in one run are repeats of the judge, told apart by their column `repeat`.

    Raises:
        CannotTell: no row, or runs that graded different items.
    """
    import numpy as np
    import pandas as pd

    if frame.empty:
        raise CannotTell(f"{recipe} has no grades yet")
    rows, runs = _runs(frame["data_seed"].to_numpy(dtype=np.int64), frame["seed"].to_numpy(dtype=np.int64))
    columns, ids = pd.factorize(frame["id"])
    repeat = frame["repeat"].to_numpy()
    first = np.zeros(len(ids), dtype=np.int64)
    first[columns[::-1]] = np.arange(len(frame))[::-1]
    values = np.full((len(runs), len(ids), int(repeat.max()) + 1), np.nan)
    seen = np.zeros((len(runs), len(ids)), dtype=bool)
    seen[rows, columns] = True
    if not seen.all():
        place = int(np.argmin(seen.all(axis=1)))
        count = int((~seen[place]).sum())
        raise CannotTell(f"{recipe}: seed {runs[place][1]} lacks {count} of {len(ids)} items that other seeds graded")
    values[rows, columns, repeat] = frame["value"].to_numpy()
    flagged = tuple(sorted(set(frame["item"].to_numpy()[frame["flag"].to_numpy() != ""])))
    return Arm(
        recipe=recipe,
        runs=runs,
        ids=tuple(ids.tolist()),
        items=tuple(frame["item"].to_numpy()[first].tolist()),
        clusters=tuple(frame["cluster"].to_numpy()[first].tolist()),
        values=values,
        flagged=flagged,
    )


def _runs(data: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], tuple[Run, ...]]:
    """The place of each row's run, and the runs in order. By hashing: sorting rows of pairs takes ten times as long."""
    import pandas as pd

    names, of_seed = pd.factorize(seeds, sort=True)
    draws_, of_data = pd.factorize(data, sort=True)
    rows, codes = pd.factorize(draws_ * len(of_seed) + names, sort=True)
    runs = tuple((int(of_data[code // len(of_seed)]), int(of_seed[code % len(of_seed)])) for code in codes)
    return rows, runs


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
    items = tuple(arm.items[index] for index in order) if arm.items else ()
    return replace(arm, ids=ids, items=items, clusters=clusters, values=arm.values[:, order])


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
