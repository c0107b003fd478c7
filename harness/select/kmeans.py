"""`kmeans`: a few rows of every cluster, for a sample that covers the pool (2308.12032 §2.1)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.columns import VECTOR
from harness.records.hashing import seed_of
from harness.records.values import Count, Keep
from harness.select._bounds import Reasons, scores
from harness.select._vectors import Stored, check_enough, marked

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.cluster import KMeans

_SEEDS = 2**32
_COLUMNS = 16
"""Columns whose variance is worked out at once."""
Percent = Annotated[float, Field(ge=0, le=100)]


class Clusters(Selector):
    """Groups rows by scikit-learn's K-means over the vectors that `embed` gave, and keeps some of each group.

    `per_cluster` rows of each, as Cherry picks the rows of its pre-experienced model: every n-th in the rows' order
    (`spaced`), or those nearest to the centre. A smaller cluster gives all that it has, so fewer rows may result. With
    `keep` instead, exactly so many in all, shared as evenly as the clusters allow: the diversity arm of a selection.

    The released script keeps, before it counts, the rows whose prompt perplexity lies between two percentiles of their
    cluster; the paper does not. `within: perplexity` does so, after `{score: perplexity, of: prompt}`. Clusters smaller
    than `per_cluster` are exempt, as there.

    Reasons: `<vector> missing`, `<score> missing`, `<score> outside its cluster's middle`, `not picked in its cluster`.
    """

    name: ClassVar[str] = "kmeans"

    by: str = identity("embedding", description="The vector that rows are grouped by: the `column` of `embed`.")
    clusters: Count = identity(100, description="Groups.", source="2308.12032 §2.1")
    per_cluster: Count = identity(10, description="Rows of each group.", unit="rows", source="2308.12032 §2.1")
    keep: Keep | None = identity(None, description="Rows in all instead (10% or a count), shared evenly by the groups.")
    pick: Literal["spaced", "nearest"] = identity(
        "spaced",
        description="Every n-th of the group, or the nearest to its centre.",
        source="released data_by_cluster.py",
    )
    within: str | None = identity(
        None, description="A score: only rows between two percentiles of it are picked. Not in the paper."
    )
    low: Percent = identity(
        25, description="Lower percentile of `within`.", source="released pre_experience_selection.sh"
    )
    high: Percent = identity(
        75, description="Upper percentile of `within`.", source="released pre_experience_selection.sh"
    )
    starts: Count = identity(
        1,
        description="Runs of K-means, of which the best counts (n_init); 10 before scikit-learn 1.4.",
        source="released: the library's default",
    )
    batch: Count | None = identity(
        None,
        description="Mini-batches of so many rows, drawn from the file, for pools larger than the memory.",
    )
    random_state: int | None = identity(
        0,
        ge=0,
        lt=_SEEDS,
        description="Seed of K-means; none takes the data seed.",
        source="released data_by_cluster.py",
    )

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"`low` ({self.low:g}) should be below `high` ({self.high:g}): no row lies between them")
        if self.keep is not None and self.within is not None:
            raise ValueError("`keep` promises a number of rows that the window of `within` could not give: choose one")
        return self

    def is_random(self) -> bool:
        """Only without a seed of its own."""
        return self.random_state is None

    def needs(self) -> tuple[str, ...]:
        """The vector, and the score that limits."""
        return (f"{VECTOR}{self.by}", *([self.within] if self.within else []))

    def expects(self, total: int) -> int:
        """Rows that a forecast counts on, out of `total`."""
        return self.keep.of(total) if self.keep else min(total, self.clusters * self.per_cluster)

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Clusters of all rows that have a vector, then picks within each.

        Raises:
            UserError: fewer rows than clusters times rows of each.
        """
        import numpy as np

        reasons = Reasons(len(table))
        if self.within:
            reasons.mark(scores(table, self.within).isna(), f"{self.within} missing")
        stored = Stored(context.vectors[self.by], reasons.kept().copy())
        marked(stored, self.by, reasons)
        places = stored.places
        wanted = self.clusters if self.keep else self.clusters * self.per_cluster
        why = f"{self.clusters} clusters" + ("" if self.keep else f" of {self.per_cluster} rows")
        check_enough(self.name, len(places), wanted, why, "set `clusters` or `per_cluster` lower")
        labels, distances = self._clustered(stored, context)
        members = [np.flatnonzero(labels == label) for label in range(self.clusters)]
        sizes = [len(member) for member in members]
        counts = shares(sizes, self.keep.of(len(table))) if self.keep else [self.per_cluster] * self.clusters
        picked, outside = np.zeros(len(table), dtype=bool), np.zeros(len(table), dtype=bool)
        for member, count in zip(members, counts, strict=True):
            middle = self._middle(member, table, places, count)
            outside[places[np.setdiff1d(member, middle)]] = True
            picked[places[self._picked(middle, count, distances)]] = True
        reasons.mark(outside, f"{self.within} outside its cluster's middle")
        reasons.mark(~picked, "not picked in its cluster")
        return reasons.result()

    def _clustered(self, stored: Stored, context: Context) -> tuple[np.ndarray, np.ndarray]:
        """Cluster of each row, and its distance to that cluster's centre."""
        import numpy as np
        from sklearn.exceptions import ConvergenceWarning

        drawn = seed_of(context.seed, context.block, context.iteration) % _SEEDS
        seed = drawn if self.random_state is None else self.random_state
        with warnings.catch_warnings():  # fewer distinct rows than clusters: the empty ones give nothing
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = self._method(seed).fit(stored.given if self._from_file(stored) else stored.held())
        if self.pick == "spaced":
            return found.labels_, np.zeros(0)
        centres, labels = found.cluster_centers_, found.labels_
        parts = ((part, labels[start : start + len(part)]) for start, part in stored.parts())
        return labels, np.concatenate([np.linalg.norm(part - centres[its], axis=1) for part, its in parts])

    def _method(self, seed: int) -> Any:
        """scikit-learn's estimator; the one for all rows at once may spend the array that it is given."""
        from sklearn.cluster import MiniBatchKMeans

        options: dict[str, Any] = {"n_clusters": self.clusters, "random_state": seed, "n_init": self.starts}
        if self.batch:
            return MiniBatchKMeans(batch_size=self.batch, **options)
        return _lean()(copy_x=False, **options)

    def _from_file(self, stored: Stored) -> bool:
        """Mini-batches are drawn from the mapped file, whose pages the system takes back when it needs them."""
        return self.batch is not None and len(stored) == len(stored.given)

    def _middle(self, member: np.ndarray, table: pd.DataFrame, places: np.ndarray, count: int) -> np.ndarray:
        """Members whose score is in the middle of their cluster; all of a cluster that has too few."""
        import numpy as np

        if self.within is None or len(member) < max(count, 1):
            return member
        values = scores(table, self.within).to_numpy()[places[member]]
        low, high = np.percentile(values, self.low), np.percentile(values, self.high)
        middle: np.ndarray = member[(values >= low) & (values <= high)]
        return middle

    def _picked(self, member: np.ndarray, count: int, distances: np.ndarray) -> np.ndarray:
        picked = member
        if count and len(member) > count and self.pick == "nearest":
            picked = member[distances[member].argsort(kind="stable")]
        elif count and len(member) > count:
            picked = member[:: len(member) // count]
        return picked[:count]


def _lean() -> type[KMeans]:
    """scikit-learn's K-means without a second array of the size of the first.

    Its tolerance is a share of the mean variance of the columns, for which it subtracts the mean from all rows at once;
    here that is done for some columns at a time. With the same numbers: columns do not meet in a variance.
    """
    import numpy as np
    from sklearn.cluster import KMeans

    class Lean(KMeans):
        tol: float

        def _check_params_vs_input(self, X: np.ndarray) -> None:  # noqa: N803
            share, self.tol = self.tol, 0.0
            try:
                super()._check_params_vs_input(X)
            finally:
                self.tol = share
            columns = (X[:, at : at + _COLUMNS] for at in range(0, X.shape[1], _COLUMNS))
            self._tol = np.mean(np.concatenate([np.var(part, axis=0) for part in columns])) * share

    return Lean


def shares(sizes: list[int], total: int) -> list[int]:
    """`total` shared as evenly as the sizes allow: small groups give all, the rest is the others'."""
    given, left = [0] * len(sizes), min(total, sum(sizes))
    order = sorted(range(len(sizes)), key=lambda place: sizes[place])
    for done, place in enumerate(order):
        given[place] = min(sizes[place], left // (len(sizes) - done))
        left -= given[place]
    return given
