"""Claims are points of the parent run, lines of its note, and part of its document."""

from __future__ import annotations

import json
from pathlib import Path

from written_experiments import Written, write

from harness.analysis.grid import read_grid
from harness.store.home import Home
from harness.tracking.deltas import comparison


def test_claims_stand_beside_the_differences(tmp_path: Path) -> None:
    write(tmp_path, Written())
    path = Home(tmp_path).grid_file("night")
    grid = json.loads(path.read_text())
    about = {"text": "Good beats plain.", "better": "good", "than": "plain"}
    grid["resolved"]["claims"] = [{"id": "true", **about}, {"id": "absent", "score": "odd", **about}]
    path.write_text(json.dumps(grid))
    found = comparison(read_grid(tmp_path, "night"))
    points = {point.key: point.value for point in found.points(5) if point.key.startswith("claim/")}
    assert set(points) == {"claim/true", "claim/true.low", "claim/true.high", "claim/true.p_holm"}
    assert points["claim/true.low"] < points["claim/true"] < points["claim/true.high"]
    assert found.document["claims"]["counts"] == {"holds": 1, "does not hold": 0, "cannot tell": 1}
    assert "- **holds** true: Good beats plain." in found.note()


def test_without_claims_nothing_is_added(tmp_path: Path) -> None:
    write(tmp_path, Written())
    found = comparison(read_grid(tmp_path, "night"))
    assert "claims" not in found.document
    assert not [point for point in found.points(5) if point.key.startswith("claim/")]
