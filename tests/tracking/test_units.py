"""Units of a real plan: the grid file that the planner writes is the one that tracking reads."""

from __future__ import annotations

import pytest

from harness import api
from harness.analysis.grid import Grid, read_grid
from harness.loop.run import write_grid
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.tracking.units import Reader, cell_units, untuned_units


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    home = Home(tmp_path_factory.mktemp("home")).prepare()
    write_grid(api.plan("smoke"), home)
    return read_grid(home.path, "smoke")


def test_every_stage_of_every_cell_is_in_a_unit(grid: Grid) -> None:
    reader = Reader(Store(grid.home))
    for cell in grid.cells:
        assert cell.name
        needed = {key for unit in cell_units(grid, cell, reader) for _, key in unit.needs}
        assert set(cell.stage_keys()) <= needed


def test_ids_are_distinct_and_the_same_for_every_reader(grid: Grid) -> None:
    first = [unit.id for cell in grid.cells for unit in cell_units(grid, cell, Reader(Store(grid.home)))]
    again = [unit.id for cell in grid.cells for unit in cell_units(grid, cell, Reader(Store(grid.home)))]
    assert first == again
    for cell in grid.cells:
        ids = [unit.id for unit in cell_units(grid, cell, Reader(Store(grid.home)))]
        assert len(ids) == len(set(ids))


def test_nothing_is_ready_before_it_ran(grid: Grid) -> None:
    reader = Reader(Store(grid.home))
    units = untuned_units(grid, reader) + [u for cell in grid.cells for u in cell_units(grid, cell, reader)]
    assert units
    assert not any(reader.done(ref) for unit in units for ref in unit.needs)
