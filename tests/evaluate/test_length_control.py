"""Length control: local tables in the package's place, published coefficients, and an interval that can be believed."""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

import numpy as np
import pytest

from harness.errors import UserError
from harness.evaluate import _length_control
from harness.evaluate._alpaca import Annotation
from harness.evaluate._length_control import NAME
from harness.evaluate._logistic import coefficient_errors, fit, mean_prediction


def difficulties(folder: Path, n: int, *, shuffled: bool = False) -> str:
    file = folder / f"difficulty{shuffled}.csv"
    rows = [(i, f"{Random(i).gauss(0, 1):.6f}") for i in range(n)]
    if shuffled:
        Random(0).shuffle(rows)
    file.write_text("index,instruction_difficulty\n" + "\n".join(f"{i},{d}" for i, d in rows))
    return str(file)


def annotated(n: int, longer: int = 0) -> list[Annotation]:
    rng = Random(7)
    return [
        Annotation(i, 1 + rng.random() * (0.6 if i % 2 else 1.0), 100 + rng.randint(0, 900) + longer, 500)
        for i in range(n)
    ]


def test_the_order_of_the_table_is_no_matter(tmp_path: Path) -> None:
    """The package finds a difficulty by the place of its row; a shuffled file must not give other difficulties."""
    given = annotated(80)
    one = _length_control.fitted(given, difficulties(tmp_path, 80), None)
    other = _length_control.fitted(given, difficulties(tmp_path, 80, shuffled=True), None)
    assert one == other
    assert one[f"{NAME}.low"] < one[NAME] < one[f"{NAME}.high"]  # type: ignore[operator]


def test_too_few_verdicts_or_equal_lengths_give_no_figure(tmp_path: Path) -> None:
    table = difficulties(tmp_path, 80)
    assert _length_control.fitted(annotated(20), table, None)[NAME] is None
    same = [Annotation(i, 1.5, 300, 400) for i in range(80)]
    assert _length_control.fitted(same, table, None)[NAME] is None


def test_a_table_with_gaps_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "gaps.csv"
    table.write_text("index,instruction_difficulty\n" + "\n".join(f"{2 * i},0.5" for i in range(80)))
    with pytest.raises(UserError, match="from 0 on without gaps"):
        _length_control.fitted([Annotation(2 * i, 1.5, 300 + i, 400) for i in range(80)], str(table), None)
    table.write_text("index,other\n0,1\n")
    with pytest.raises(UserError, match="no column instruction_difficulty"):
        _length_control.fitted(annotated(80), str(table), None)


def test_every_published_model_with_all_items_gives_its_published_figure(real_data: Path) -> None:
    folder = real_data / "alpaca_eval"
    with (folder / "leaderboard_v2.csv").open() as file:
        rows = {row[""]: row for row in csv.DictReader(file)}
    with (folder / "lc_coefficients.csv").open() as file:
        models = [row[""] for row in csv.DictReader(file)]
    whole = [name for name in models if name in rows and rows[name]["n_total"] == "805"]
    assert len(whole) > 100
    for name in Random(0).sample(whole, 12):
        found = _length_control.published(
            name, str(folder / "lc_coefficients.csv"), str(folder / "instruction_difficulty.csv")
        )
        assert found == pytest.approx(float(rows[name]["length_controlled_winrate"]), abs=1e-5), name


def test_a_model_without_coefficients_is_named(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "alpaca_eval"
    with pytest.raises(UserError, match="no coefficients of 'nobody'"):
        _length_control.published(
            "nobody", str(folder / "lc_coefficients.csv"), str(folder / "instruction_difficulty.csv")
        )


def simulated(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = np.column_stack([np.ones(n), rng.normal(size=n), rng.normal(size=n)])
    odds = features @ np.array([-1.0, 0.8, 0.5])
    return features, (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)


def at_zero(features: np.ndarray) -> np.ndarray:
    there: np.ndarray = features * np.array([1.0, 0.0, 1.0])
    return there


def test_the_standard_error_agrees_with_a_bootstrap_of_refits() -> None:
    features, wins = simulated(1, 400)
    ones, items = np.ones(400), np.arange(400)
    coefficients = fit(features, wins, ones)
    assert coefficients is not None
    value, error = mean_prediction(features, wins, ones, items, coefficients, at_zero(features))
    rng, drawn, slopes = np.random.default_rng(2), [], []
    for _ in range(300):
        at = rng.integers(0, 400, 400)
        again = fit(features[at], wins[at], ones)
        assert again is not None
        slopes.append(again)
        drawn.append(mean_prediction(features[at], wins[at], ones, items, again, at_zero(features[at]))[0])
    assert value == pytest.approx(np.mean(drawn), abs=0.01)
    assert error == pytest.approx(np.std(drawn, ddof=1), rel=0.15)
    errors = coefficient_errors(features, wins, ones, items, coefficients)
    assert errors == pytest.approx(np.std(slopes, axis=0, ddof=1), rel=0.2)


def test_verdicts_that_are_all_alike_cannot_be_fitted() -> None:
    features, _ = simulated(1, 30)
    assert fit(features, np.ones(30), np.ones(30)) is None
    separable = fit(features, (features[:, 1] > 0).astype(float), np.ones(30))
    assert separable is not None
    assert np.isfinite(separable).all()


def test_the_package_is_left_as_it_was(tmp_path: Path) -> None:
    from alpaca_eval.metrics import glm_winrate

    before = glm_winrate.hf_hub_download
    _length_control.fitted(annotated(80), difficulties(tmp_path, 80), None)
    assert glm_winrate.hf_hub_download is before


@pytest.mark.parametrize("preference", [1.0, 2.0])
def test_verdicts_that_are_all_alike_give_no_figure(tmp_path: Path, preference: float) -> None:
    """The package would say 50 % of a model that lost every time, and be certain of it."""
    given = [Annotation(i, preference, 100 + 7 * i, 500) for i in range(80)]
    found = _length_control.fitted(given, difficulties(tmp_path, 80), None, missing=2)
    assert (found[NAME], found[f"{NAME}.n"], found[f"{NAME}.missing"]) == (None, 82, 82)


def test_missing_verdicts_are_counted_and_widen_the_interval(tmp_path: Path) -> None:
    given, table = annotated(80), difficulties(tmp_path, 80)
    whole, some = _length_control.fitted(given, table, None), _length_control.fitted(given, table, None, missing=20)
    assert (some[NAME], some[f"{NAME}.n"], some[f"{NAME}.missing"]) == (whole[NAME], 100, 20)
    assert some[f"{NAME}.low"] == pytest.approx(0.8 * whole[f"{NAME}.low"])  # type: ignore[operator]
    assert some[f"{NAME}.high"] == pytest.approx(0.8 * whole[f"{NAME}.high"] + 20)  # type: ignore[operator]
    beside = _length_control.beside(some, 30.0)
    assert (beside[f"{NAME}:published.n"], beside[f"{NAME}:published.missing"]) == (100, 20)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "cannot be read as CSV"),
    (b"\xff\xfe\x00\x01", "cannot be read as CSV"),
    (b"index,instruction_difficulty\n0,hard\n", "should hold a number in each row"),
    (b"index,instruction_difficulty\n0,\n1,2\n", "should hold a number in each row"),
])  # fmt: skip
def test_a_table_that_is_none_is_a_mistake(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        _length_control.fitted(annotated(80), str(tmp_path / "d.csv"), None)
