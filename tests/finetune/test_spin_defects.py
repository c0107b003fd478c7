"""What the released code of SPIN does and ours must not (uclaml/SPIN a12ba80), one test each.

Its other defects have their tests elsewhere: rounds that begin with the wrong reference in test_losses.py, answers
without a mark of being cut in tests/synthesize, sampling and duplicated rows in tests/loop/test_spin.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuning import pairs, turn

from harness.blocks.kinds import TrainContext
from harness.finetune._data import encode_pairs, encode_rows
from harness.finetune._pairs import PairCollator, pair_items
from harness.finetune.dpo import Dpo
from harness.records.chat import ChatFormat
from harness.records.cut import CUT_ANSWER, CUT_REJECTED
from harness.records.example import Example

Make = Callable[..., TrainContext]
LONG = Example(
    id="long",
    messages=(
        turn("system", "be brief"),
        turn("user", "one?"),
        turn("assistant", "red"),
        turn("user", "two?"),
        turn("assistant", "green blue"),
    ),
    rejected="seven eight nine",
)


@pytest.fixture
def chat(base: Path) -> ChatFormat:
    return ChatFormat.from_folder(base)


def test_answers_are_scored_after_the_very_prompt_that_they_were_sampled_from(chat: ChatFormat) -> None:
    rows = [*pairs(12), LONG]
    encoded = encode_pairs(rows, chat, 128)
    for row, pair in zip(rows, encoded.rows, strict=True):
        assert tuple(pair.prompt) == chat.render(row.prompt, add_generation_prompt=True)
        assert chat.decode(pair.rejected.tolist()) == row.rejected
    assert not encoded.counts["answer joins the prompt's last token"]


def test_a_system_turn_and_earlier_turns_are_part_of_the_prompt(chat: ChatFormat) -> None:
    (pair,) = encode_pairs([LONG], chat, 128).rows
    assert all(text in chat.decode(pair.prompt.tolist()) for text in ("be brief", "one?", "red", "two?"))
    assert chat.decode(pair.chosen.tolist()) == "green blue"


def test_each_side_has_one_end_token_and_every_token_is_seen(chat: ChatFormat) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    encoded = encode_pairs([LONG, *pairs(3)], chat, 128).rows
    for pair in encoded:
        for side in (pair.chosen, pair.rejected):
            assert [token in chat.stop_ids for token in side] == [False] * (len(side) - 1) + [True]
    batch = PairCollator(DataCollatorForPreference(pad_token_id=0))(pair_items(encoded))
    lengths = [len(p.prompt) + len(p.chosen) for p in encoded] + [len(p.prompt) + len(p.rejected) for p in encoded]
    assert batch["attention_mask"].sum(1).tolist() == lengths, "end tokens inside the conversation included"


@pytest.mark.parametrize(("field", "side"), [(CUT_ANSWER, "chosen"), (CUT_REJECTED, "rejected")])
def test_an_answer_cut_by_the_length_cap_has_no_end_token(chat: ChatFormat, field: str, side: str) -> None:
    (whole,) = encode_pairs([LONG], chat, 128).rows
    encoded = encode_pairs([replace(LONG, fields={field: True})], chat, 128)
    (cut,) = encoded.rows
    assert getattr(cut, side).tolist() == getattr(whole, side).tolist()[:-1]
    other = "rejected" if side == "chosen" else "chosen"
    assert getattr(cut, other).tolist() == getattr(whole, other).tolist()
    assert encoded.counts["cut before, without an end token"] == 1


def test_a_cut_answer_trains_without_an_end_token_in_sft_too(chat: ChatFormat) -> None:
    (whole,) = encode_rows([LONG], chat, 128, None).rows
    encoded = encode_rows([replace(LONG, fields={CUT_ANSWER: True})], chat, 128, None)
    (cut,) = encoded.rows
    assert cut.ids.tolist() == whole.ids.tolist()[:-1]
    assert cut.train.sum() == whole.train.sum() - 1
    assert encoded.counts == {"cut before, without an end token": 1}


def test_equal_caps_cut_both_sides_alike_and_leave_no_end_token(chat: ChatFormat) -> None:
    (whole,) = encode_pairs([LONG], chat, 128).rows
    encoded = encode_pairs([LONG], chat, 128, max_answer=len(whole.chosen) - 1)
    (capped,) = encoded.rows
    assert len(capped.chosen) == len(capped.rejected) == len(whole.chosen) - 1
    assert not {capped.chosen[-1], capped.rejected[-1]} & set(chat.stop_ids)
    assert capped.prompt.tolist() == whole.prompt.tolist()
    assert encoded.counts["truncated"] == 1


def test_one_long_side_leaves_prompt_and_other_side_whole(chat: ChatFormat) -> None:
    (whole,) = encode_pairs([LONG], chat, 1000).rows
    room = len(whole.prompt) + len(whole.rejected)
    (pair,) = encode_pairs([replace(LONG, rejected="over " * 80)], chat, room).rows
    assert pair.prompt.tolist() == whole.prompt.tolist()
    assert pair.chosen.tolist() == whole.chosen.tolist()
    assert len(pair.prompt) + len(pair.rejected) == room


def test_steps_print_nothing(context: Make, capfd: pytest.CaptureFixture[str]) -> None:
    Dpo(epochs=1, batch_size=4, logging_steps=1, held_out="25%").train(pairs(16), context())
    assert capfd.readouterr() == ("", "")


def test_the_reference_is_asked_once_per_pair_whatever_the_epochs(
    context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import DPOTrainer

    asked: list[int] = []
    ask = DPOTrainer.compute_ref_log_probs

    def counted(self: Any, model: Any, inputs: dict[str, Any]) -> Any:
        asked.append(len(inputs["input_ids"]) // 2)
        return ask(self, model, inputs)

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", counted)
    report = Dpo(epochs=3, batch_size=4).train(pairs(16), context())
    assert report.steps == 12
    assert asked == [4, 4, 4, 4]


def test_adapters_of_the_round_before_are_part_of_the_reference(context: Make, base: Path, tmp_path: Path) -> None:
    """A start that is a folder of adapters is merged: the base without them is another reference."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    start = tmp_path / "adapters"
    adapted.save_pretrained(start)
    for file in base.iterdir():
        if "token" in file.name or file.name == "chat_template.jinja":
            shutil.copy(file, start)
    options: dict[str, Any] = {"epochs": 1, "logging_steps": 1, "beta": 1.0, "lora": {"r": 2}}
    report = Dpo(**options).train(pairs(8), context("merged", start=start))
    against = Dpo(**options).train(pairs(8), context("base", start=start, reference=base))
    assert report.first_loss == pytest.approx(report.figures["loss/expected"], abs=1e-4)
    assert against.first_loss != pytest.approx(report.first_loss, abs=1e-2)
    assert "loss/expected" not in against.figures, "nothing is known of it with another reference"
