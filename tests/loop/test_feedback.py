"""Feedback: units do not mix, one-category suites steer nothing, weakest first."""

from __future__ import annotations

from pathlib import Path

from harness.blocks.kinds import Grade
from harness.loop.feedback import from_grades
from harness.records.evaltables import write_grades


def graded(folder: Path, values: dict[str, list[float | None]]) -> Path:
    folder.mkdir()
    grades = [
        Grade(id=f"{c}{i}", item=f"{c}{i}", cluster=f"{c}{i}", category=c, values={"headline": v, "other": 0.0})
        for c, vs in values.items()
        for i, v in enumerate(vs)
    ]
    write_grades(folder / "grades.parquet", grades)
    return folder


def test_shares_and_points_stand_side_by_side(tmp_path: Path) -> None:
    share = graded(tmp_path / "a", {"math": [1.0, 0.0], "writing": [1.0, 1.0]})
    points = graded(tmp_path / "b", {"math": [10.0, 9.0], "coding": [2.0, 4.0, None]})
    single = graded(tmp_path / "c", {"gsm8k": [0.0, 0.0]})
    feedback = from_grades([share, points, single])
    assert [w.category for w in feedback.categories] == ["coding", "math", "writing"]
    assert [(round(w.score, 3), w.n) for w in feedback.categories] == [(0.3, 2), (0.725, 4), (1.0, 2)]
    assert feedback.failed == ("coding0", "coding1", "gsm8k0", "gsm8k1", "math1")
