from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuning import example, examples, turn, weights

from harness.blocks.base import option_class
from harness.blocks.kinds import TrainContext
from harness.errors import StageFailed, UserError
from harness.finetune import _isolation
from harness.finetune.sft import Sft
from harness.records.chat import ChatFormat
from harness.records.example import Example
from harness.records.templates import template_hash

Make = Callable[..., TrainContext]
FAST: dict[str, Any] = {"learning_rate": 3e-3, "epochs": 2, "batch_size": 8, "logging_steps": 1}


def test_it_learns_and_reports_exactly_what_it_trained(context: Make, base: Path) -> None:
    rows, seen = examples(20), []
    run = context(progress=lambda step, total, metrics: seen.append((step, total, metrics["loss"])))
    report = Sft(**FAST | {"epochs": 6, "learning_rate": 0.02}).train(rows, run)
    chat = ChatFormat.from_folder(base)
    masks = [chat.mask(row.messages)[1] for row in rows]
    lengths = [max(at for at, flag in enumerate(mask) if flag) + 1 for mask in masks]
    assert (report.rows, report.steps) == (20, 18)
    assert report.loss_tokens == 6 * sum(map(sum, masks))
    assert report.train_tokens == 6 * sum(lengths)  # what follows the last trained token is left out
    assert report.first_loss is not None
    assert report.last_loss is not None
    assert report.last_loss < report.first_loss / 2
    assert [point["step"] for point in report.history] == list(range(1, 19))
    assert {"loss", "grad_norm", "learning_rate", "tokens"} <= report.history[0].keys()
    assert report.history[-1]["tokens"] == report.train_tokens
    assert seen == [(int(p["step"]), 18, p["loss"]) for p in report.history]
    assert set(report.seconds) == {"import", "load", "encode", "setup", "train", "measure", "save"}


def test_the_saved_folder_is_a_plain_model(context: Make, base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = context()
    Sft(**FAST).train(examples(8), run)
    model = AutoModelForCausalLM.from_pretrained(run.out, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(run.out, local_files_only=True)
    assert template_hash(run.out) == template_hash(base)
    assert (run.out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert tokenizer.chat_template == ChatFormat.from_folder(base).template
    assert model.config.use_cache is True
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id
    assert str(base) not in (run.out / "config.json").read_text()
    assert {file.stat().st_mode & 0o777 for file in run.out.iterdir()} == {
        (run.out / "config.json").stat().st_mode & 0o777
    }
    assert not list(run.out.parent.glob(".*.tmp"))


def test_a_template_that_the_start_lacked_is_written_down(context: Make, base: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    run = context(start=bare)
    Sft(**FAST).train(examples(8), run)
    assert (run.out / "chat_template.jinja").is_file()
    assert template_hash(run.out) == template_hash(bare)


def test_equal_seeds_give_equal_bytes(context: Make) -> None:
    runs = [context(name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    for run in runs:
        Sft(**FAST).train(examples(20), run)
    assert weights(runs[0].out) == weights(runs[1].out)
    assert weights(runs[0].out) != weights(runs[2].out)


@pytest.mark.parametrize("rows_say", ["assistant", "all"])
def test_loss_on_overrides_the_rows(context: Make, rows_say: str) -> None:
    rows = examples(8, loss_on=rows_say)
    whole = Sft(**FAST, loss_on="all").train(rows, context("all"))
    answers = Sft(**FAST, loss_on="assistant").train(rows, context("assistant"))
    own = Sft(**FAST).train(rows, context("own"))
    assert whole.loss_tokens == whole.train_tokens - 2 * 8  # all but the first token of each row, in two epochs
    assert answers.loss_tokens < whole.loss_tokens
    assert own.loss_tokens == (whole if rows_say == "all" else answers).loss_tokens


def test_rows_that_cannot_train_are_dropped_by_reason(context: Make) -> None:
    long_question = Example(id="q", messages=(turn("user", "over " * 60), turn("assistant", "Yes.")))
    long_answer = Example(id="a", messages=(turn("user", "Say?"), turn("assistant", "over " * 60)))
    silent = Example(id="s", messages=(turn("user", "Say?"),))
    rows = [*examples(4), long_question, long_answer, silent, example(9, weight=0.0)]
    report = Sft(**FAST, max_length=48).train(rows, context())
    assert report.rows == 5
    assert report.dropped == {"no answer token within max_length": 1, "no answer": 1, "weight 0": 1}
    assert report.counts == {"truncated": 1}


def test_an_answer_that_was_cut_has_no_end_token(base: Path) -> None:
    from harness.finetune._data import encode_rows

    chat = ChatFormat.from_folder(base)
    rows = [example(0), Example(id="a", messages=(turn("user", "Say?"), turn("assistant", "over " * 60)))]
    whole, cut = encode_rows(rows, chat, 48, None).rows
    assert whole.ids[-1] in chat.stop_ids
    assert whole.train[-1]
    assert len(cut.ids) == 48
    assert cut.train[-1]
    assert not set(cut.ids[cut.train].tolist()) & set(chat.stop_ids)


def test_later_turns_are_trained_too(base: Path) -> None:
    from harness.finetune._data import encode_rows

    chat = ChatFormat.from_folder(base)
    messages = (turn("user", "red?"), turn("assistant", "blue."), turn("user", "seven?"), turn("assistant", "nine."))
    (row,) = encode_rows([Example(id="t", messages=messages)], chat, 128, None).rows
    assert "".join(chat.decode(row.ids[row.train].tolist()).split()) == "blue.nine."


def test_a_row_counts_by_its_weight(context: Make) -> None:
    options = FAST | {"epochs": 1}
    plain = Sft(**options).train(examples(8), context("plain"))
    double = Sft(**options).train(examples(8, weight=2.0), context("double"))
    assert double.first_loss == pytest.approx(2 * (plain.first_loss or math.nan), rel=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_rows_in_one_sequence_train_as_if_alone(context: Make, monkeypatch: pytest.MonkeyPatch, packing: bool) -> None:
    """One batch holds all rows, so the first loss and gradient must not depend on how they lie in it."""
    options = FAST | {"epochs": 1, "batch_size": 20}
    dense = Sft(**options, packing=packing).train(examples(20), context("dense"))
    monkeypatch.setattr(_isolation, "keeps_apart", lambda *_: False)
    padded = Sft(**options).train(examples(20), context("padded"))
    monkeypatch.setattr(_isolation, "takes_positions", lambda *_: False)
    masked = Sft(**options).train(examples(20), context("masked"))
    assert [r.runtime["layout"] for r in (dense, padded, masked)] == ["packed", "padded", "masked"]
    for name in ("loss", "grad_norm", "mean_token_accuracy"):
        values = [r.history[0][name] for r in (dense, padded, masked)]
        assert values == pytest.approx([values[0]] * 3, rel=1e-5), name


def test_packing_is_refused_where_rows_would_see_each_other(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_isolation, "keeps_apart", lambda *_: False)
    with pytest.raises(UserError, match="does not keep packed rows apart: write packing: false"):
        Sft(**FAST, packing=True).train(examples(8), context())


def test_a_leak_between_rows_is_noticed(base: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    class Leaking(LlamaForCausalLM):
        def forward(self, input_ids: Any, position_ids: Any = None, **more: Any) -> Any:
            return super().forward(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **more)

    honest = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    first, second = list(range(4, 30)), list(range(60, 90))
    assert _isolation.keeps_apart(honest, first, second)
    assert not _isolation.keeps_apart(Leaking.from_pretrained(base, dtype=torch.float32), first, second)


def test_budgets_replace_epochs(context: Make) -> None:
    assert Sft(**FAST, max_steps=3).train(examples(20), context("steps")).steps == 3
    epoch = Sft(**FAST | {"epochs": 1}).train(examples(20), context("epoch")).train_tokens
    report = Sft(**FAST, train_tokens=5 * epoch).train(examples(20), context("tokens"))
    assert report.train_tokens == pytest.approx(5 * epoch, rel=0.1)


def test_two_ends_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="max_steps and train_tokens both say where training ends"):
        Sft(max_steps=3, train_tokens=1000)


def test_a_tokenizer_of_another_model_is_noticed(context: Make, base: Path, tmp_path: Path) -> None:
    from harness.engines.scratch import build

    small = tmp_path / "small"
    build(small, hidden=32, layers=1, heads=2, vocab=270, seed=0, texts=["red green blue"], context=128)
    shutil.copyfile(base / "tokenizer.json", small / "tokenizer.json")
    with pytest.raises(
        UserError, match=r"no embedding for \(it has 270\), in the rows row/0, .*do not belong together"
    ):
        Sft(**FAST).train(examples(8), context(start=small))


def test_a_loss_that_is_no_number_names_step_rows_and_remedy(context: Make) -> None:
    run = context()
    with pytest.raises(StageFailed) as failure:
        Sft(**FAST | {"learning_rate": 1e30, "max_grad_norm": 0}).train(examples(16), run)
    text = str(failure.value)
    assert "is nan at step 2" in text or "is inf at step 2" in text
    named = [f"row/{index}" for index in range(16) if f"row/{index}," in text or f"row/{index}. " in text]
    assert len(named) == 8  # the second batch, and only it
    assert "smaller learning_rate" in text
    assert not run.out.exists()


def test_nothing_to_train_on_says_why(context: Make) -> None:
    silent = [Example(id=str(k), messages=(turn("user", "Say?"),)) for k in range(3)]
    with pytest.raises(StageFailed, match=r"no row is left to train on \(3 no answer\)"):
        Sft(**FAST).train(silent, context())
    with pytest.raises(StageFailed, match="the steps before gave none"):
        Sft(**FAST).train([], context())


def test_it_prints_nothing(context: Make, capfd: pytest.CaptureFixture[str]) -> None:
    Sft(**FAST).train(examples(16), context())
    assert capfd.readouterr() == ("", "")


def test_lora_changes_the_adapted_weights_only_and_leaves_a_plain_folder(context: Make, base: Path) -> None:
    from safetensors.torch import load_file

    run = context()
    report = Sft(**FAST, lora={"r": 2, "alpha": 4, "target_modules": ("q_proj",)}).train(examples(8), run)
    before, after = load_file(base / "model.safetensors"), load_file(run.out / "model.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert before.keys() == after.keys()
    assert changed == {name for name in before if "q_proj" in name}
    assert report.loss_tokens > 0
    assert not list(run.out.glob("adapter*"))


def test_other_options_of_trl_pass_through(context: Make) -> None:
    plain, other = context("plain"), context("other")
    Sft(**FAST).train(examples(8), plain)
    Sft(**FAST, trl={"adam_beta1": 0.5}).train(examples(8), other)
    assert weights(plain.out) != weights(other.out)


def test_a_value_that_trl_refuses_is_the_users(context: Make) -> None:
    with pytest.raises(UserError, match="TRL's SFTConfig refuses an option"):
        Sft(**FAST, optim="sgdd").train(examples(8), context())


def test_modules_that_are_not_there_are_the_users(context: Make) -> None:
    with pytest.raises(UserError, match=r"sft refuses an option: .*elsewhere"):
        Sft(**FAST, lora={"target_modules": ("elsewhere",)}).train(examples(8), context())


def test_recomputing_activations_changes_nothing(context: Make) -> None:
    plain = Sft(**FAST).train(examples(8), context("plain"))
    thrifty = Sft(**FAST, gradient_checkpointing=True).train(examples(8), context("thrifty"))
    assert [p["loss"] for p in thrifty.history] == pytest.approx([p["loss"] for p in plain.history], rel=1e-5)


def test_a_full_disk_leaves_no_part_of_a_model(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    def full(self: Any, folder: Path, **more: Any) -> None:
        (folder / "config.json").write_text("{")
        raise OSError(28, "No space left on device")

    run = context()
    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", full)
    with pytest.raises(StageFailed, match="could not be written .*No space left on device.*free or unlock the disk"):
        Sft(**FAST).train(examples(8), run)
    assert [entry.name for entry in run.out.parent.iterdir()] == ["work"]


def test_lacking_weights_are_refused(context: Make, base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors.pop(next(name for name in tensors if "q_proj" in name))
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks weights.*q_proj"):
        Sft(**FAST).train(examples(8), context(start=broken))


def test_every_option_is_identity_or_runtime() -> None:
    runtime = {name for name, info in Sft.model_fields.items() if option_class(info) == "runtime"}
    saving = {"save_seconds", "save_steps", "save_total_limit"}
    assert runtime == {"gradient_checkpointing", "logging_steps", "devices", "sharding"} | saving
    assert Sft(devices=2, sharding="fsdp").identity_options() == Sft().identity_options()
    assert Sft(attn_implementation="eager").identity_options() != Sft().identity_options()
    assert Sft(logging_steps=1).identity_options() == Sft().identity_options()
    assert Sft(learning_rate=1e-3).identity_options() != Sft().identity_options()
    json.dumps(Sft(lora={"r": 2}).identity_options())
