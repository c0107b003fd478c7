"""Names that MLflow takes, and points that are the same whenever they are made."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.grid import SuiteFacts
from harness.blocks.kinds import Metric
from harness.tracking import points
from harness.tracking.points import Point


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("test/mt_bench/score:math", "test/mt_bench/score:math"),
        ("ifd-10[top.keep=5%]", "ifd-10_top.keep_5"),
        ("data/top/dropped:IFD>=1", "data/top/dropped:IFD_1"),
        ("größe", "gr_e"),
        ("%", "_"),
    ],
)
def test_names_hold_only_what_mlflow_takes(name: str, form: str) -> None:
    assert points.safe(name) == form


def test_names_that_would_become_one_are_numbered() -> None:
    assert points.safe_names(["a[5%]", "a[5]", "b", "a[5%]"]) == {"a[5%]": "a_5", "a[5]": "a_5-2", "b": "b"}


def suite(*metrics: Metric) -> SuiteFacts:
    return SuiteFacts(
        name="s",
        block="s",
        version=1,
        options={},
        items={},
        judge=None,
        label="",
        stand_in=False,
        real=True,
        metrics=metrics,
        headline=metrics[0].name,
    )


def grade(value: float | None, cluster: str, category: str = "") -> dict[str, Any]:
    return {"values": {"score": value}, "item": cluster, "cluster": cluster, "category": category}


def made(rows: list[dict[str, Any]], metric: Metric) -> dict[str, float]:
    return {p.key: p.value for p in points.scores(suite(metric), "test", 1, {"created": 1.5}, rows)}


def test_a_share_has_wilsons_interval() -> None:
    found = made([grade(float(k < 8), str(k)) for k in range(10)], Metric(name="score", binary=True))
    assert found["test/s/score"] == 0.8
    assert found["test/s/score.low"] == pytest.approx(0.4902, abs=1e-3)
    assert found["test/s/score.high"] == pytest.approx(0.9433, abs=1e-3)


def test_turns_of_one_question_count_as_one_cluster() -> None:
    metric = Metric(name="score", unit="points")
    apart = made([grade(float(k // 2), str(k)) for k in range(12)], metric)
    joined = made([grade(float(k // 2), str(k // 2)) for k in range(12)], metric)
    width = {
        name: found["test/s/score.high"] - found["test/s/score.low"] for name, found in (("a", apart), ("j", joined))
    }
    assert width["j"] > 1.3 * width["a"]


def test_a_missing_grade_is_counted_and_widens() -> None:
    metric = Metric(name="score", binary=True)
    whole = made([grade(float(k % 2), str(k)) for k in range(10)], metric)
    found = made([grade(float(k % 2), str(k)) for k in range(10)] + [grade(None, "lost")], metric)
    assert (found["test/s/score.n"], found["test/s/score.missing"]) == (11, 1)
    assert found["test/s/score"] == whole["test/s/score"] == 0.5
    assert found["test/s/score.low"] < whole["test/s/score.low"]


def test_suspect_answers_are_left_out_of_a_second_figure() -> None:
    metric = Metric(name="score", binary=True)
    rows = [grade(float(k < 8), str(k)) | {"tags": {"flag": "constant"} if k < 3 else {}} for k in range(10)]
    found = made(rows, metric)
    assert (found["test/s/score"], found["test/s/score.n"]) == (0.8, 10)
    assert found["test/s/score:not_flagged"] == pytest.approx(5 / 7)
    assert found["test/s/score:not_flagged.n"] == 7
    assert {f"test/s/score:not_flagged.{part}" for part in ("low", "high", "missing")} <= set(found)
    assert not any("flagged" in key for key in made(rows[3:], metric))


def test_a_suites_own_figure_keeps_its_interval_n_and_missing() -> None:
    report = {"win_rate": 50.0, "win_rate.low": 45.0, "win_rate.high": 55.0, "win_rate.n": 10, "win_rate.missing": 0}
    rows = [grade(float(k < 5), str(k)) for k in range(10)]
    found = points.scores(suite(Metric(name="score")), "test", 1, {"created": 1.5, "report": report}, rows)
    assert {p.key: p.value for p in found if "win_rate" in p.key} == {f"test/s/{k}": v for k, v in report.items()}


def test_nothing_measured_is_no_score() -> None:
    found = made([grade(None, "a"), grade(None, "b")], Metric(name="score"))
    assert found == {"test/s/score.n": 2, "test/s/score.missing": 2}


def test_one_item_in_a_unit_without_bounds_has_no_interval() -> None:
    assert set(made([grade(7.0, "a")], Metric(name="score", unit="points"))) == {
        "test/s/score",
        "test/s/score.n",
        "test/s/score.missing",
    }


def test_categories_are_shown_where_there_are_several() -> None:
    rows = [grade(1.0, "a", "math"), grade(0.0, "b", "writing")]
    assert {"test/s/score:math", "test/s/score:writing", "test/s/score"} <= set(made(rows, Metric(name="score")))
    assert not any(":" in key for key in made(rows[:1], Metric(name="score")))


def test_a_category_that_the_suite_reports_too_is_one_point() -> None:
    rows = [grade(4.0, "a", "math"), grade(6.0, "b", "math"), grade(8.0, "c", "writing")]
    manifest = {"created": 1.5, "report": {"score:math": 5.0, "score:turn-1": 6.0}}
    rated = suite(Metric(name="score", unit="points", bounds=(1, 10)))
    keys = [p.key for p in points.scores(rated, "test", 1, manifest, rows)]
    assert keys.count("test/s/score:math") == 1
    assert keys.count("test/s/score:turn-1") == 1


def test_grades_in_points_keep_to_their_bounds() -> None:
    rows = [grade(float(9 + k % 2), str(k)) for k in range(4)] + [grade(None, "lost")]
    bounded = made(rows, Metric(name="score", unit="points", bounds=(1, 10)))
    assert bounded["test/s/score.high"] <= 10
    assert bounded["test/s/score.low"] < 8
    assert "test/s/score.low" not in made(rows, Metric(name="score", unit="points"))


def test_curves_leave_out_what_is_no_number() -> None:
    history = [{"step": 1, "loss": 2.0, "epoch": 0.1}, {"step": 2, "loss": float("nan"), "note": "x"}]
    found = points.curves("sft", 10, {"created": 2.0, "report": {"history": history}})
    assert found == [Point("train/sft/loss", 2.0, 2000, 11)]


def test_a_trainings_speed_and_memory_are_costs_of_its_step() -> None:
    report = {"speed": {"tokens_per_second": 900.5, "mfu": 0.25}, "figures": {"loss/expected": 0.7}}
    found = points.rows("sft", 2, {"created": 2.0, "rows": 5, "report": report})
    assert Point("cost/sft/tokens_per_second", 900.5, 2000, 2) in found
    assert Point("cost/sft/mfu", 0.25, 2000, 2) in found
    assert Point("data/sft/loss/expected", 0.7, 2000, 2) in found
