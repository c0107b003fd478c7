from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tuning import example, examples, pairs, turn, weights

from harness.blocks.kinds import TrainContext
from harness.errors import StageFailed
from harness.finetune.dpo import Dpo
from harness.finetune.sft import Sft

Make = Callable[..., TrainContext]
FAST: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "logging_steps": 1}
LN2 = math.log(2)
MORE: list[dict[str, Any]] = [
    {},
    {"beta": 5.0},
    {"lora": {"r": 2}},
    {"precompute_ref_log_probs": False},
    {"precompute_ref_log_probs": False, "lora": {"r": 2}},
]


@pytest.mark.parametrize("more", MORE)
def test_the_first_loss_is_ln_2_and_then_pairs_part(context: Make, more: dict[str, Any]) -> None:
    report = Dpo(**FAST | {"epochs": 5} | more).train(pairs(16), context())
    first, last = report.history[0], report.history[-1]
    assert first["loss"] == pytest.approx(LN2, abs=1e-4 if more.get("beta") else 2e-6)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-3 if more.get("beta") else 1e-5)
    assert last["loss"] < LN2
    assert last["rewards/margins"] > 0
    assert {"logps/chosen", "logps/rejected", "rewards/accuracies", "grad_norm", "tokens"} <= first.keys()


def test_asking_the_reference_once_is_asking_it_always(context: Make) -> None:
    once, always = context("once"), context("always")
    a = Dpo(**FAST).train(pairs(16), once)
    b = Dpo(**FAST, precompute_ref_log_probs=False).train(pairs(16), always)
    assert [p["loss"] for p in a.history] == pytest.approx([p["loss"] for p in b.history], abs=1e-5)


def test_another_reference_changes_the_first_loss(context: Make) -> None:
    tuned = context("tuned")
    Sft(learning_rate=3e-3, epochs=3).train(examples(16), tuned)
    run = context("run", reference=tuned.out)
    report = Dpo(**FAST).train(pairs(16), run)
    assert report.first_loss is not None
    assert abs(report.first_loss - LN2) > 0.01
    same = Dpo(**FAST).train(pairs(16), context("same", start=tuned.out, reference=tuned.out))
    assert same.first_loss == pytest.approx(LN2, abs=2e-6)


def test_a_tied_pair_teaches_nothing_and_is_counted(context: Make, base: Any) -> None:
    rows = [replace(row, rejected=row.answer) for row in pairs(8)]
    run = context()
    report = Dpo(**FAST).train(rows, run)
    assert report.counts == {"identical pairs": 8}
    assert [p["loss"] for p in report.history] == pytest.approx([LN2] * len(report.history), abs=1e-6)
    assert [p["grad_norm"] for p in report.history] == pytest.approx([0.0] * len(report.history), abs=1e-5)


def test_swapping_the_sides_turns_the_margin_round(context: Make) -> None:
    rows = pairs(8)
    swapped = [
        replace(row, messages=(*row.prompt, turn("assistant", row.rejected or "")), rejected=row.answer) for row in rows
    ]
    a = Dpo(**FAST).train(rows, context("a")).history[0]
    b = Dpo(**FAST).train(swapped, context("b")).history[0]
    assert a["logps/chosen"] == pytest.approx(b["logps/rejected"], rel=1e-5)
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_rows_that_are_no_pairs_are_dropped(context: Make) -> None:
    question = replace(example(1), messages=example(1).messages[:1], rejected="No.")
    report = Dpo(**FAST).train([*pairs(8), example(3), question], context())
    assert report.rows == 8
    assert report.dropped == {"no rejected answer": 1, "no answer": 1}
    with pytest.raises(StageFailed, match="8 no rejected answer"):
        Dpo(**FAST).train(examples(8), context("none"))


def test_tokens_are_those_of_both_sides(context: Make, base: Any) -> None:
    from harness.finetune._data import encode_pairs
    from harness.records.chat import ChatFormat

    encoded = encode_pairs(pairs(8), ChatFormat.from_folder(base), 128).rows
    completions = sum(len(pair.chosen) + len(pair.rejected) for pair in encoded)
    report = Dpo(**FAST).train(pairs(8), context())
    assert report.loss_tokens == 2 * completions
    assert report.train_tokens == 2 * (completions + sum(2 * len(pair.prompt) for pair in encoded))
    stops = ChatFormat.from_folder(base).stop_ids
    assert all(pair.chosen[-1] in stops and pair.rejected[-1] in stops for pair in encoded)


def test_a_cut_side_has_no_end_token_and_no_room_drops(base: Any) -> None:
    from harness.finetune._data import encode_pairs
    from harness.records.chat import ChatFormat

    chat = ChatFormat.from_folder(base)
    (whole,) = encode_pairs(pairs(1), chat, 128).rows
    cut = encode_pairs([replace(pairs(1)[0], rejected="over " * 60)], chat, len(whole.prompt) + len(whole.chosen))
    (pair,) = cut.rows
    assert cut.counts["truncated"] == 1
    assert pair.chosen[-1] in chat.stop_ids
    assert pair.rejected[-1] not in chat.stop_ids
    with pytest.raises(StageFailed, match="1 no answer token within max_length"):
        encode_pairs(pairs(1), chat, len(whole.prompt))


def test_weights_are_refused(context: Make) -> None:
    with pytest.raises(StageFailed, match=r"row row/0 has the weight 2.0"):
        Dpo(**FAST).train([replace(pairs(1)[0], weight=2.0)], context())


def test_equal_seeds_give_equal_bytes(context: Make) -> None:
    runs = [context(name) for name in ("a", "b")]
    for run in runs:
        Dpo(**FAST).train(pairs(16), run)
    assert weights(runs[0].out) == weights(runs[1].out)


def test_roles() -> None:
    assert Dpo().roles() == {"start": "current"}
    assert Dpo(reference="start").roles() == {"start": "current", "reference": "start"}
