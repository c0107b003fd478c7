"""Brings values into one shape: runs × units, missing ones bounded, items of one cluster joined."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from harness.errors import CannotTell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Bounds = tuple[float, float]
Clusters = Sequence[Hashable] | None


def as_runs(values: npt.ArrayLike) -> Floats:
    """Values as (runs, items, repeats), from (items,), (runs, items) or all three; NaN is missing.

    Raises:
        ValueError: another number of axes, no value at all, or an infinite one.
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if not 1 <= array.ndim <= 3 or array.size == 0:
        raise ValueError(f"values have shape {array.shape}: give (items,), (runs, items) or (runs, items, repeats)")
    if np.isinf(array).any():
        raise ValueError("a value is infinite: neither a score nor missing (missing is NaN)")
    if array.ndim == 1:
        array = array[None, :]
    return array[..., None] if array.ndim == 2 else array


def over_repeats(values: Floats) -> tuple[Floats, float | None]:
    """Means over repeats, shape (runs, items), and the variance that the judge adds to the mean of all of them.

    The variance is None where nothing was judged twice: then it was not measured.
    """
    import numpy as np

    present = ~np.isnan(values)
    counts = present.sum(axis=-1)
    sums = np.where(present, values, 0.0).sum(axis=-1)
    means = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    repeated = counts > 1
    if not repeated.any():
        return means, None
    squares = np.where(present, (values - means[..., None]) ** 2, 0.0).sum(axis=-1)[repeated]
    per_cell = squares / (counts[repeated] - 1) / counts[repeated]
    return means, float(per_cell.mean() / counts.size)


def joined(values: Floats, clusters: Clusters) -> Floats:
    """Complete values (..., runs, items) as one value per cluster, with the same mean in every run.

    A cluster's value is its linearised share of the ratio "sum of values / number of items", so clusters of unequal
    size keep the item-weighted mean and its variance (as in survey sampling).
    """
    import numpy as np

    if clusters is None or len(set(clusters)) == len(clusters):
        return values
    if len(clusters) != values.shape[-1]:
        raise ValueError(f"{len(clusters)} clusters for {values.shape[-1]} items")
    places = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    index = np.asarray([places[name] for name in clusters])
    member = np.zeros((values.shape[-1], len(places)))
    member[np.arange(index.size), index] = 1.0
    sizes = member.sum(axis=0)
    average = sizes.mean()
    means = values.mean(axis=-1, keepdims=True)
    result: Floats = values @ member / average - (sizes / average - 1) * means
    return result


def needed(bounds: Bounds | None, missing: int) -> Bounds:
    """The range that a missing value may have.

    Raises:
        CannotTell: it is not known. What was seen is no range: a missing grade may be worse than all of it.
    """
    if bounds is None:
        raise CannotTell(
            f"{missing} grades are missing and the metric has no bounds, so they could be anything and nothing follows"
        )
    return bounds


def varying(units: Floats, bounds: Bounds | None) -> None:
    """Refuses values without bounds that are all alike.

    Args:
        units: the variance between units; its shape is ().
        bounds: of the metric.

    Raises:
        CannotTell: nothing varies, so nothing is known of how much it might, and no bounds say how much it can.
    """
    if bounds is None and float(units) <= 0:
        raise CannotTell("no item differs from another and the metric has no bounds, so its noise is not known")


def is_binary(bounds: Bounds | None, *arrays: Floats) -> bool:
    """True where every value that is there is one of the two bounds."""
    import numpy as np

    return bounds is not None and all(bool(np.isin(a[~np.isnan(a)], bounds).all()) for a in arrays)


def filled(values: Floats, value: float) -> Floats:
    """A copy with the missing values replaced."""
    import numpy as np

    return np.where(np.isnan(values), value, values)


def present_mean(values: Floats) -> Floats:
    """A copy with missing values at their run's mean (the mean of all where a run has none): for noise shares only."""
    import numpy as np

    present = ~np.isnan(values)
    counts = present.sum(axis=-1, keepdims=True)
    sums = np.where(present, values, 0.0).sum(axis=-1, keepdims=True)
    whole = sums.sum() / counts.sum()
    return np.where(present, values, np.where(counts > 0, sums / np.maximum(counts, 1), whole))
