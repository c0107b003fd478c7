"""`facility`: rows that stand for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.blocks.kinds import Context
from harness.errors import UserError
from harness.select.facility import Facility, greedy


def test_facility_location_picks_what_the_released_library_picks() -> None:
    """Picks and gains of submodlib-py 0.0.3 (dense, euclidean, LazyGreedy) on these 60 vectors."""
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype("float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert greedy(vectors, 10) == [24, 12, 0, 29, 43, 20, 11, 49, 7, 55]


def test_two_groups_give_one_row_each_before_either_gives_a_second(select: Any) -> None:
    vectors = np.array([[1, 0.01], [1, 0], [1, 0.02], [0, 1], [0.01, 1]], dtype="float32")
    reasons = select(Facility(keep=2), Context(vectors={"embedding": vectors}), x=[0.0] * 5)
    kept = [place for place, why in enumerate(reasons) if why is None]
    assert len(kept) == 2
    assert kept[0] < 3 <= kept[1]
    assert {why for why in reasons if why} == {"another row stands for it"}


def test_rows_without_a_vector_are_named_and_a_count_beyond_the_pool_is_refused(select: Any) -> None:
    vectors = np.array([[1, 0], [np.nan, np.nan], [0, 1]], dtype="float32")
    context = Context(vectors={"embedding": vectors})
    assert select(Facility(keep=2), context, x=[0.0] * 3) == [None, "embedding missing", None]
    with pytest.raises(UserError, match="need 3 rows, and 2 came in"):
        select(Facility(keep=3), context, x=[0.0] * 3)
