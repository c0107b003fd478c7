"""What a round of self-play is measured by, when it says stop, and what it does then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tuning import pairs, weights

from harness.blocks.kinds import TrainContext
from harness.errors import StageFailed, UserError
from harness.finetune._rounds import HeldOut, signal
from harness.finetune.dpo import Dpo
from harness.records.example import Example, Origin
from harness.records.held import held_out

Make = Callable[..., TrainContext]
FAST: dict[str, Any] = {"learning_rate": 3e-3, "epochs": 3, "batch_size": 8, "logging_steps": 1}


def of_round(rows: list[Example], iteration: int) -> list[Example]:
    """Pairs of an iteration, with the prompt's group as the pair builder leaves it."""
    origin = Origin(block="gold_vs_self", iteration=iteration)
    return [
        replace(row, id=f"{row.id}/{iteration}", group=row.group or row.id, origin=origin, fields={}) for row in rows
    ]


def test_the_same_prompts_are_held_out_in_every_round() -> None:
    kept = []
    for turn in (1, 2):
        split = HeldOut(0.25)
        trained = list(split.trained(iter(of_round(pairs(200), turn))))
        assert len(trained) + len(split.rows) == 200
        assert 30 <= len(split.rows) <= 70
        kept.append({row.group for row in split.rows})
        assert not kept[0] & {row.group for row in trained}
    assert kept[0] == kept[1]


def test_only_the_newest_round_is_measured() -> None:
    split = HeldOut(1.0)
    list(split.trained(iter([*of_round(pairs(6), 2), *of_round(pairs(6), 1)])))
    assert {row.origin.iteration for row in split.fresh()} == {2}


def test_older_answers_do_not_stand_in_where_the_newest_of_held_out_prompts_all_equal_the_data() -> None:
    split = HeldOut(0.25)
    newer = [row for row in of_round(pairs(100), 2) if not held_out(row.group, 0.25)]
    list(split.trained(iter([*newer, *of_round(pairs(100), 1)])))
    assert split.rows
    assert split.fresh() == []


def test_nothing_is_held_out_by_default(context: Make) -> None:
    report = Dpo(**FAST).train(pairs(16), context())
    assert report.rows == 16
    assert "held out" not in report.counts
    assert report.notes == {}


def test_a_round_is_measured_on_prompts_that_did_not_train(context: Make) -> None:
    report = Dpo(**FAST, beta=0.5, held_out="40%").train(of_round(pairs(80), 1), context())
    held = report.counts["held out"]
    assert report.rows == 80 - held
    figures = report.figures
    assert figures["held_out/pairs"] == held >= 20
    margin = figures["held_out/rewards/chosen"] - figures["held_out/rewards/rejected"]
    assert figures["held_out/rewards/margins"] == pytest.approx(margin, abs=1e-5)
    assert figures["held_out/kl"] == pytest.approx(-figures["held_out/rewards/rejected"] / 0.5)
    assert figures["held_out/change/chosen"] == pytest.approx(figures["held_out/rewards/chosen"] / 0.5)
    assert figures["held_out/rewards/accuracies"] > 0.8, "these rejected answers are all of one form"
    assert figures["held_out/p"] < 0.05
    assert figures["held_out/loss"] < figures["loss/expected"]
    assert report.notes["stop"].startswith("go on: accuracy")


@pytest.mark.parametrize(
    "more", [{"lora": {"r": 2}}, {"precompute_ref_log_probs": False}, {"loss_type": "correlation"}]
)
def test_it_is_measured_the_same_way_however_it_trains(context: Make, more: dict[str, Any]) -> None:
    report = Dpo(**FAST, held_out="40%", **more).train(of_round(pairs(80), 1), context())
    assert report.figures["held_out/rewards/margins"] > 0
    assert report.figures["held_out/loss"] < report.figures["loss/expected"]


def test_the_stop_rule() -> None:
    assert not signal(0.5, 100).pays
    assert signal(0.5, 100).text.startswith("stop: accuracy 0.50 on 100 held-out pairs")
    assert signal(0.7, 100).pays
    assert not signal(0.7, 20).pays, "14 of 20 happen by accident"
    assert signal(0.0, 19).pays
    assert signal(0.0, 19).text.startswith("cannot tell: 19 held-out pairs")


def indistinct(count: int, share: float) -> list[Example]:
    """Pairs that part in training, and are equal where they are held out."""
    rows = of_round(pairs(count), 1)
    return [replace(row, rejected=row.answer) if held_out(row.group, share) else row for row in rows]


def test_a_round_that_teaches_nothing_says_stop_and_may_give_its_start_back(context: Make, base: Path) -> None:
    options: dict[str, Any] = {**FAST, "held_out": "40%"}
    reported, kept = context("reported"), context("kept")
    report = Dpo(**options).train(indistinct(80, 0.4), reported)
    assert "another round does not pay" in report.notes["stop"]
    report = Dpo(**options, on_stop="keep_start").train(indistinct(80, 0.4), kept)
    assert "gives back the model it began with" in report.notes["stop"]
    assert weights(kept.out) == weights(base)
    assert weights(reported.out) != weights(base)


def test_a_round_whose_answers_all_equal_the_data_gives_its_start_back_or_fails_plainly(
    context: Make, base: Path
) -> None:
    run = context("kept")
    report = Dpo(**FAST, on_stop="keep_start").train([], run)
    assert (report.steps, report.rows, report.train_tokens) == (0, 0, 0)
    assert report.notes["stop"].startswith("stop: no pair to train on, since the answers equal the data's")
    assert weights(run.out) == weights(base)
    assert {"config.json", "tokenizer.json"} <= {file.name for file in run.out.iterdir()}
    with pytest.raises(StageFailed, match="answers all equal the data's.*on_stop: keep_start"):
        Dpo(**FAST).train([], context("failed"))


def test_a_round_whose_pairs_are_all_held_out_says_so(context: Make) -> None:
    with pytest.raises(StageFailed, match="all 8 are of prompts that `held_out` keeps out of training. Lower it"):
        Dpo(**FAST, held_out="100%").train(of_round(pairs(8), 1), context())
    report = Dpo(**FAST, held_out="100%", on_stop="keep_start").train(of_round(pairs(8), 1), context("kept"))
    assert "the 8 that there are are all held out" in report.notes["stop"]


def test_one_rule_says_which_model_a_round_gives() -> None:
    with pytest.raises(ValidationError, match="both say which model a round gives"):
        Dpo(on_stop="keep_start", checkpoints=2)


def test_a_loss_that_is_no_number_names_step_and_rows(context: Make) -> None:
    run = context()
    with pytest.raises(StageFailed, match=r"(loss|gradient) is (nan|inf).* at step 2, on the rows row/.*learning_rate"):
        Dpo(**FAST | {"learning_rate": 1e30}, max_grad_norm=0).train(pairs(16), run)
    assert not run.out.exists()


def test_a_reference_that_is_no_model_is_refused(context: Make, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"the reference of dpo.*empty.* cannot be loaded"):
        Dpo(**FAST, reference="other").train(pairs(8), context(reference=empty))
    with pytest.raises(UserError, match=r"the reference of dpo.*nowhere"):
        Dpo(**FAST, reference="other").train(pairs(8), context(reference=tmp_path / "nowhere"))


def test_a_reference_with_another_vocabulary_is_refused(context: Make, tmp_path: Path) -> None:
    from harness.engines.scratch import build

    other = tmp_path / "other"
    texts = [f"{row.answer} {row.rejected} zzz qqq" for row in pairs(16)]
    build(other, hidden=32, layers=1, heads=2, vocab=280, seed=0, texts=texts, context=128)
    with pytest.raises(UserError, match="reads other token ids than the start model"):
        Dpo(**FAST, reference="other").train(pairs(8), context(reference=other))
