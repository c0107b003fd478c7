"""`kmeans`: how many rows of which cluster, and why the others are left out."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context
from harness.errors import UserError
from harness.select import _vectors
from harness.select.kmeans import Clusters, shares


def groups(*sizes: int, width: int = 3) -> np.ndarray:
    """Rows of well separated groups, one after the other."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [10 * place + rng.normal(scale=0.1, size=(size, width)) for place, size in enumerate(sizes)]
    ).astype("float32")


def kept(reasons: list[str | None]) -> list[int]:
    return [place for place, why in enumerate(reasons) if why is None]


def given(vectors: np.ndarray, **more: Any) -> Context:
    return Context(vectors={"embedding": vectors}, **more)


def test_as_many_rows_of_each_group_spaced_evenly_and_all_of_a_small_one(select: Any) -> None:
    vectors = groups(12, 2, 7)
    reasons = select(Clusters(clusters=3, per_cluster=3), given(vectors), x=[0.0] * 21)
    assert kept(reasons) == [0, 4, 8, 12, 13, 14, 16, 18], "every 12 // 3rd, both of two, every 7 // 3rd"
    assert {why for why in reasons if why} == {"not picked in its cluster"}


def test_the_nearest_rows_of_each_group(select: Any) -> None:
    vectors = np.array([[0.0], [0.1], [0.2], [9.0], [9.9], [10.0], [10.1], [11.0]], dtype="float32")
    reasons = select(Clusters(clusters=2, per_cluster=1, pick="nearest"), given(vectors), x=[0.0] * 8)
    assert kept(reasons) == [1, 5]


def test_keep_shares_a_number_of_rows_evenly(select: Any) -> None:
    vectors = groups(30, 2, 8)
    reasons = select(Clusters(clusters=3, keep=12), given(vectors), x=[0.0] * 40)
    places = kept(reasons)
    assert len(places) == 12, "exactly, so that arms of one size can be compared"
    assert [sum(low <= place < high for place in places) for low, high in ((0, 30), (30, 32), (32, 40))] == [5, 2, 5]
    assert len(kept(select(Clusters(clusters=3, keep="25%"), given(vectors), x=[0.0] * 40))) == 10


def test_shares_give_small_groups_whole_and_the_rest_to_the_others() -> None:
    assert shares([10, 10, 10], 9) == [3, 3, 3]
    assert shares([1, 10, 10], 9) == [1, 4, 4]
    assert shares([0, 5, 2], 100) == [0, 5, 2]
    assert sum(shares([7, 3, 9, 4], 17)) == 17


def test_the_middle_of_a_score_and_rows_without_one(select: Any) -> None:
    vectors = groups(8, 2)
    perplexity = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None, 1.0, 9.0]
    block = Clusters(clusters=2, per_cluster=3, within="perplexity")
    with pytest.raises(UserError, match="2 clusters of 3 rows need 6 rows, and 5 came in"):
        select(block, given(vectors[:5]), perplexity=perplexity[:5])
    reasons = select(block, given(vectors), perplexity=perplexity)
    assert reasons[7] == "perplexity missing"
    assert [reasons[place] for place in (0, 6)] == ["perplexity outside its cluster's middle"] * 2
    assert kept(reasons) == [2, 3, 4, 8, 9], "the middle half of seven, and a cluster that is too small for a window"


def test_rows_without_a_vector_are_named(select: Any) -> None:
    vectors = groups(4, 4)
    vectors[2] = np.nan
    assert select(Clusters(clusters=2, per_cluster=2), given(vectors), x=[0.0] * 8)[2] == "embedding missing"


def test_a_pool_smaller_than_clusters_times_rows_is_refused(select: Any) -> None:
    with pytest.raises(UserError, match=r"100 clusters of 10 rows need 1,000 rows, and 21 came in: set `clusters`"):
        select(Clusters(), given(groups(12, 2, 7)), x=[0.0] * 21)
    with pytest.raises(UserError, match="100 clusters need 100 rows"):
        select(Clusters(keep="10%"), given(groups(12, 2, 7)), x=[0.0] * 21)


def test_equal_rows_are_no_error_and_give_what_there_is(select: Any) -> None:
    vectors = np.zeros((9, 2), dtype="float32")
    assert len(kept(select(Clusters(clusters=3, per_cluster=2), given(vectors), x=[0.0] * 9))) == 2


def test_the_seed_is_the_released_one_unless_it_is_given_up(select: Any) -> None:
    vectors = np.random.default_rng(1).normal(size=(60, 4)).astype("float32")
    fixed, free = Clusters(clusters=6, per_cluster=2), Clusters(clusters=6, per_cluster=2, random_state=None)
    assert not fixed.is_random()
    assert free.is_random()
    one = [kept(select(fixed, given(vectors, seed=seed), x=[0.0] * 60)) for seed in (0, 1)]
    assert one[0] == one[1]
    drawn = {tuple(kept(select(free, given(vectors, seed=seed), x=[0.0] * 60))) for seed in range(4)}
    assert len(drawn) > 1


def test_mini_batches_find_groups_that_lie_apart(select: Any) -> None:
    reasons = select(Clusters(clusters=3, per_cluster=2, batch=8), given(groups(30, 20, 25)), x=[0.0] * 75)
    assert [sum(low <= place < high for place in kept(reasons)) for low, high in ((0, 30), (30, 50), (50, 75))] == [
        2, 2, 2
    ]  # fmt: skip


def test_what_a_forecast_counts_on() -> None:
    assert [Clusters().expects(total) for total in (50_000, 600)] == [1000, 600]
    assert Clusters(keep="10%").expects(50_000) == 5000


def test_options_without_meaning_are_refused() -> None:
    for options in (
        {"low": -1},
        {"high": 101},
        {"clusters": 0},
        {"pick": "best"},
        {"random_state": -1},
        {"low": 75, "high": 25},
        {"keep": 9, "within": "ifd"},
    ):
        with pytest.raises(ValidationError):
            Clusters(**options)


# --- a million rows ---------------------------------------------------------------------------------------------------
def test_the_clusters_are_those_of_scikit_learn_to_the_bit() -> None:
    from sklearn.cluster import KMeans

    from harness.select.kmeans import _lean

    vectors = np.random.default_rng(1).normal(size=(3000, 50)).astype("float32") + 3
    options = {"n_clusters": 12, "random_state": 0, "n_init": 2}
    theirs, ours = KMeans(**options).fit(vectors), _lean()(copy_x=False, **options).fit(vectors.copy())
    assert ours._tol == theirs._tol > 0
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_array_equal(ours.cluster_centers_, theirs.cluster_centers_)


@pytest.mark.parametrize("batch", [None, 512])
def test_vectors_are_held_once_at_most(
    select: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    """Two copies of a million rows of 384 numbers would take 3 GB."""
    monkeypatch.setattr(_vectors, "PART", 1024)
    np.random.default_rng(0).normal(size=(20_000, 256)).astype("float32").tofile(tmp_path / "vectors")
    vectors = np.memmap(tmp_path / "vectors", np.float32, "c", shape=(20_000, 256))
    block, table = Clusters(clusters=8, per_cluster=2, batch=batch, pick="nearest"), [0.0] * 20_000
    select(block, given(vectors[:400]), x=table[:400])  # imports are not counted
    tracemalloc.start()
    select(block, given(vectors), x=table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (0.5 if batch else 1.5) * vectors.nbytes, f"{peak / vectors.nbytes:.2f} times the vectors"
