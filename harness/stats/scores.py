"""The score of one model or recipe, with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import CannotTell
from harness.stats._values import (
    Bounds,
    Clusters,
    as_runs,
    filled,
    is_binary,
    joined,
    needed,
    over_repeats,
    present_mean,
    varying,
)
from harness.stats.estimate import CONFIDENCE, Estimate
from harness.stats.spread import Spread, half_width, quantile, spread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def score(
    values: npt.ArrayLike, *, clusters: Clusters = None, bounds: Bounds | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """A mean with its interval.

    With bounds the interval is Wilson's, its sample size reduced to what noise between items, clusters and runs leaves
    (Korn and Graubard 1998; for one run of a binary metric it is exactly Wilson's); without, a t interval. With three
    or more runs their noise is a random effect (see `harness.stats.spread`).

    Args:
        values: (items,), (runs, items) or (runs, items, judge repeats); NaN is a missing grade.
        clusters: per item, the question that it belongs to; items of one question are not independent.
        bounds: the lowest and highest possible value; (0, 1) for shares. None: unknown.
        confidence: of the interval, between 0 and 1.

    Raises:
        CannotTell: no grade at all; without bounds also: a missing grade, a single item, or items that are all alike.
    """
    import numpy as np

    runs, judge = over_repeats(as_runs(values))
    missing = int(np.isnan(runs).sum())
    if missing == runs.size:
        raise CannotTell(f"none of {runs.size} grades is there, so there is no score")
    worst = best = runs
    if missing:
        worst, best = (filled(runs, end) for end in needed(bounds, missing))
    binary = is_binary(bounds, runs)
    span = [interval(v, clusters=clusters, bounds=bounds, binary=binary, confidence=confidence) for v in (worst, best)]
    units = joined(present_mean(runs), clusters)
    of = spread(units) if units.shape[-1] > 1 else None
    if of is not None:
        varying(of.units, bounds)
    return Estimate(
        value=float(np.nanmean(runs)),
        low=float(span[0][0]),
        high=float(span[1][1]),
        n=runs.shape[-1],
        missing=missing,
        runs=runs.shape[0],
        random_runs=of is not None and of.random_runs,
        confidence=confidence,
        noise=of.noise(judge) if of is not None else None,
    )


def interval(
    values: Floats, *, clusters: Clusters, bounds: Bounds | None, binary: bool, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Low and high ends for complete values of shape (..., runs, items): arrays of shape (...).

    Raises:
        CannotTell: a single item without bounds.
    """
    import numpy as np

    units = joined(values, clusters)
    alpha = 1 - confidence
    if units.shape[-1] == 1:
        if bounds is None:
            raise CannotTell("a single item, or a single cluster of items, says nothing about others")
        mean = values.mean(axis=(-2, -1))
        return np.full_like(mean, bounds[0]), np.full_like(mean, bounds[1])
    of = spread(units)
    if bounds is None:
        half = half_width(of, alpha)
        return of.mean - half, of.mean + half
    plain = binary and units is values
    return _wilson(of, alpha, bounds, size=values.shape[-1] * values.shape[-2], binary=binary, plain=plain)


def _wilson(of: Spread, alpha: float, bounds: Bounds, *, size: int, binary: bool, plain: bool) -> tuple[Floats, Floats]:
    """Wilson's interval on bounds, with the sample size that explains the variance. `size`: number of grades."""
    import numpy as np
    from scipy.special import ndtri

    low, width = bounds[0], bounds[1] - bounds[0]
    share = np.clip((of.mean - low) / width, 0.0, 1.0)
    spare = share * (1 - share)
    # A plain binary share has the variance p(1-p)/n, with n and not n - 1, and Wilson's own normal quantile.
    z = float(-ndtri(alpha / 2)) if plain else float(quantile(alpha, of.n - 1))
    units = of.units / width**2 * ((of.n - 1) / of.n if plain else 1.0)
    if binary:
        units = np.maximum(units, spare / size)
    square = of.half_square(units * width**2, np.asarray(z), quantile(alpha, max(of.runs - 1, 1))) / width**2
    # Where nothing varies each unit counts once (the runs may all be alike), as if it could be either bound: that all
    # are equal says where they are, not how far another item may be from them.
    some = (square > 0) & (spare > 0)
    n = np.where(some, np.divide(spare * z**2, square, out=np.ones_like(spare), where=some), of.n)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(spare / n + z**2 / (4 * n**2))
    return low + width * np.clip(centre - half, 0.0, 1.0), low + width * np.clip(centre + half, 0.0, 1.0)
