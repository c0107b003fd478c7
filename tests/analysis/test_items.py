"""The items table holds every graded item of every finished cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_experiments import Written, write

from harness.analysis.items import COLUMNS, items
from harness.errors import CannotTell


def test_every_cell_iteration_and_item_is_there(tmp_path: Path) -> None:
    write(tmp_path, Written(items=20, iterations=2, arms={"good": 0.7, "plain": 0.5}))

    frame = items(tmp_path, "night")

    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 20 * (1 + 2 * 3 * 2)
    assert set(frame["recipe"]) == {"untuned", "good", "plain"}
    assert set(frame.loc[frame["recipe"] == "untuned", "iteration"]) == {0}
    assert set(frame["cluster"]) == {f"q{i}" for i in range(20)}  # an item without a cluster is its own
    assert frame["value"].isin([0.0, 1.0]).all()


def test_a_missing_grade_is_nan_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, Written(items=20, iterations=2, arms={"good": 0.7, "plain": 0.5}, missing={"good": 2}))

    lost = items(tmp_path, "night").query("value.isna()")

    assert len(lost) == 2 * 3 * 2
    assert set(lost["missing"]) == {"no score in the verdict"}


def test_unfinished_cells_give_no_rows(tmp_path: Path) -> None:
    write(tmp_path, Written(items=20, iterations=2, arms={"good": 0.7, "plain": 0.5}, unfinished=[("good", 1)]))

    frame = items(tmp_path, "night")

    assert set(frame.query("recipe == 'good' and iteration == 2")["seed"]) == {0, 2}


def test_another_split_is_empty(tmp_path: Path) -> None:
    write(tmp_path, Written(items=20))

    assert items(tmp_path, "night", "dev").empty


def test_an_experiment_that_never_ran_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotTell, match="'night' was never run"):
        items(tmp_path, "night")
