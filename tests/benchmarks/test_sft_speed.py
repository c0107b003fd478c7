"""`benchmarks/sft_speed.py` times no two ways of training that do not do the same work."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark as a module, which finds its own helpers beside it."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module("sft_speed")


@pytest.fixture
def work(script: Any) -> Any:
    rows = script.pool(6, 0)
    return script.Work(script.POCKET, rows, script.encoded(script.POCKET, rows), 2, 1, "cpu", None)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ([2.0, 1.9, 1.8, 1.70005], None),
        ([2.0, 1.9, 1.8, 1.71], "last"),
        ([2.001, 1.9, 1.8, 1.7], "first"),
        ([2.0, 1.9, 1.8, float("nan")], "last"),
        ([2.0, 1.9], "numbers of"),
    ],
)
def test_losses_differ_where_summing_does_not_explain_it(script: Any, other: list[float], problem: str | None) -> None:
    assert script.differ({"ours": [2.0, 1.9, 1.8, 1.7], "padded": other}, exact=True) == problem


def test_a_packed_sequence_trains_as_ours_does(script: Any, work: Any) -> None:
    losses = script.equal(work, ("packed",))
    assert {way: len(found) for way, found in losses.items()} == {"ours": 4, "packed": 4}
    assert losses["ours"][-1] < losses["ours"][0]


def test_other_steps_show_in_the_last_loss_only(script: Any, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "reference", partial(script.reference, learning_rate=2 * script.RATE))
    with pytest.raises(SystemExit, match="the last losses differ"):
        script.equal(work, ("padded",))
