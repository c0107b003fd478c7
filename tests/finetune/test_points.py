"""Models along a training: where they are kept, that they are whole, and that a resumed training has them too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tuning import examples, weights

from harness.blocks.kinds import TrainContext
from harness.errors import StageFailed
from harness.finetune import _points
from harness.finetune._points import due, place
from harness.finetune.sft import Sft

Make = Callable[..., TrainContext]
FAST: dict[str, Any] = {"learning_rate": 1e-2, "epochs": 3, "batch_size": 8, "logging_steps": 1}


def test_points_are_at_equal_distances() -> None:
    assert due(9, 3) == {3: [1], 6: [2]}
    assert due(10, 4) == {3: [1], 5: [2], 8: [3]}
    assert due(2, 4) == {1: [1, 2], 2: [3]}
    assert due(5, 1) == {}


def test_one_model_per_epoch_and_the_last_is_the_tuned_one(context: Make) -> None:
    """The first of three is what a training of the same schedule is after one epoch."""
    rows, run = examples(24), context()
    report = Sft(**FAST, checkpoints=3, lr_scheduler_type="constant").train(rows, run)
    assert report.steps == 9
    assert sorted(p.name for p in (run.out.parent / "points").iterdir()) == ["1", "2"]
    short = context("short")
    Sft(**FAST | {"epochs": 1}, lr_scheduler_type="constant").train(rows, short)
    assert _equal(place(run.out, 1), short.out)
    assert not _equal(place(run.out, 2), run.out)
    assert (place(run.out, 1) / "tokenizer.json").is_file()


def test_keeping_models_changes_nothing_in_the_training(context: Make) -> None:
    rows, plain, kept = examples(24), context("plain"), context("kept")
    one, other = Sft(**FAST).train(rows, plain), Sft(**FAST, checkpoints=3).train(rows, kept)
    assert [p["loss"] for p in one.history] == [p["loss"] for p in other.history]
    assert _equal(plain.out, kept.out)


def test_adapters_are_merged_into_whole_models(context: Make) -> None:
    run = context()
    Sft(**FAST, checkpoints=2, lora={"r": 2}).train(examples(24), run)
    assert {p.name for p in place(run.out, 1).iterdir()} == {p.name for p in run.out.iterdir()}
    assert not _equal(place(run.out, 1), run.out)


def test_a_training_that_was_stopped_goes_on_with_its_points(context: Make) -> None:
    class Stopped(Exception):
        pass

    def stop(step: int, total: int, metrics: Mapping[str, float]) -> None:
        if step >= 7:
            raise Stopped

    block, rows, whole = Sft(**FAST, checkpoints=3, save_steps=2), examples(24), context("whole")
    block.train(rows, whole)
    with pytest.raises(Stopped):
        block.train(rows, context("halved", progress=stop))
    again = context("halved")
    report = block.train(rows, again)
    assert report.runtime["resumed_from_step"] == "6"
    assert all(_equal(place(whole.out, n), place(again.out, n)) for n in (1, 2))
    assert _equal(whole.out, again.out)


def test_a_point_that_is_gone_is_said(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "_keep", lambda *given: None)
    with pytest.raises(StageFailed, match="the model at point 1 of 2 was not kept"):
        Sft(**FAST, checkpoints=2).train(examples(8), context())


def test_choice_belongs_to_a_stage_of_its_own() -> None:
    plain, chosen = Sft(), Sft(checkpoints=3, choose="pocket", choose_within=0.1)
    assert "checkpoints" not in plain.identity_options()
    assert chosen.identity_options() == plain.identity_options() | {"checkpoints": 3}
    with pytest.raises(ValidationError, match="choose needs models to choose from"):
        Sft(choose="pocket")


def test_a_warm_up_may_span_phases(context: Make) -> None:
    """Two phases of one epoch have the rates of a single one of two."""
    rows, warm = examples(24), {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5}
    whole = Sft(**FAST | {"epochs": 2}, **warm).train(rows, context("whole"))
    first = Sft(**FAST | {"epochs": 1}, **warm).train(rows, context("first"))
    second = Sft(**FAST | {"epochs": 1}, **warm, warmup_done=3).train(rows, context("second"))
    rates = [point["learning_rate"] for report in (first, second) for point in report.history]
    assert rates == pytest.approx([point["learning_rate"] for point in whole.history])
    with pytest.raises(ValidationError, match="warmup_done needs"):
        Sft(warmup_done=3, warmup_steps=5)


def _equal(one: Path, other: Path) -> bool:
    return weights(one) == weights(other)
