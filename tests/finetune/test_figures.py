"""Speed, use of the device and memory of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tuning import examples, pairs

from harness.blocks.kinds import TrainContext
from harness.errors import StageFailed, UserError
from harness.finetune import _figures, sft
from harness.finetune._setup import recomputes
from harness.finetune._world import ALONE, World
from harness.finetune.dpo import Dpo
from harness.finetune.sft import Sft

Make = Callable[..., TrainContext]


def test_a_training_reports_its_speed_its_use_of_the_device_and_its_memory(context: Make) -> None:
    report = Sft(epochs=2).train(examples(16), context(device="cpu"))
    speed, seconds = report.speed, report.seconds["train"]
    assert speed["tokens_per_second"] == pytest.approx(report.train_tokens / seconds, rel=1e-2)
    assert speed["trained_tokens_per_second"] == pytest.approx(report.loss_tokens / seconds, rel=1e-2)
    assert 0 < speed["mfu"] < 1
    assert 0.05 < speed["peak_memory_gib"] < 64
    assert "a matrix product measured here in float32" in report.runtime["peak"]


def test_the_work_of_a_token_is_six_times_its_weights_and_its_attention(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    config = model.config
    inside = sum(p.numel() for name, p in model.named_parameters() if "proj" in name)
    head = config.vocab_size * config.hidden_size
    attended = 50.0  # of rows of 100, a token sees half on average
    attention = 12 * config.num_hidden_layers * config.hidden_size * attended
    expected = 6 * (inside + head) + attention
    assert _figures.flops_per_token(model, [100, 100]) == pytest.approx(expected, rel=1e-6)
    half = 6 * (inside + head / 2) + attention
    assert _figures.flops_per_token(model, [100, 100], 0.5) == pytest.approx(half, rel=1e-6), "no loss, no vocabulary"


SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "intermediate_size": 96},
    "gpt2": {"n_inner": 160},
    "gpt_neox": {"intermediate_size": 160},
    "phi": {"intermediate_size": 160},
    "qwen2": {"num_key_value_heads": 2, "intermediate_size": 96, "tie_word_embeddings": True},
    "qwen3": {"num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 32},
    "mixtral": {"num_key_value_heads": 2, "intermediate_size": 96, "num_local_experts": 4, "num_experts_per_tok": 2},
}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_work_of_a_token_is_what_torch_counts_in_a_step(kind: str) -> None:
    """Two and three matrices in the feed-forward part, grouped heads, tied and separate heads, experts."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 200}
    config = AutoConfig.for_model(kind, **shape | SHAPES[kind], max_position_embeddings=64)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", experts_implementation="eager")
    ids = torch.arange(96).view(2, 48)
    with FlopCounterMode(display=False) as counter:
        model.train()(input_ids=ids, labels=ids).loss.backward()
    counted = counter.get_total_flops() / ids.numel()
    # `eager` computes what a causal mask hides: a row of 48 attends to 48, as the mean of a row of 96.
    assert _figures.flops_per_token(model, [96, 96]) == pytest.approx(counted, rel=0.005)


def test_adapters_are_no_work_of_the_model(base: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    whole = _figures.flops_per_token(model, [100], 0.5)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert _figures.flops_per_token(adapted, [100], 0.5) == pytest.approx(whole)


def test_a_pair_is_two_sequences(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def work(model: Any, lengths: Sequence[int], scored: float) -> float:
        seen.append(list(lengths))
        return 1.0

    monkeypatch.setattr(_figures, "flops_per_token", work)
    rows = pairs(4)
    report = Dpo(max_steps=2, batch_size=2).train(rows, context(device="cpu"))
    (lengths,) = seen
    assert len(lengths) == 2 * len(rows)
    assert sum(lengths) == report.train_tokens, "two steps of two pairs are each pair once"


def test_gpus_are_looked_up_and_what_is_unknown_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    peak, by = _figures.peak_flops(torch.device("cuda"), "bfloat16")
    assert (peak, by) == (989e12, "989 TFLOP/s, as stated for NVIDIA H100 80GB HBM3 in bfloat16")
    monkeypatch.setattr(_figures, "_measured", lambda *_: 12e9)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    assert _figures.peak_flops(torch.device("cuda"), "bfloat16") == (
        12e9,
        "12 GFLOP/s, a matrix product measured here in bfloat16",
    )


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        (
            {"batch_size": 8},
            (
                "batch_size: 4 with gradient_accumulation_steps: 2 (the result stays the same), or "
                "gradient_checkpointing: true (the same result, slower), or adapters with `lora: {}`, or several"
            ),
        ),
        ({"batch_size": 1, "gradient_checkpointing": True, "lora": {"r": 2}}, "a smaller max_length"),
    ],
)
def test_no_memory_says_what_to_set(
    context: Make, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], ways: str
) -> None:
    import torch

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(sft, "items_of", full)
    run = context()
    with pytest.raises(StageFailed) as failure:
        Sft(**options).train(examples(8), run)
    text = str(failure.value)
    assert text.startswith(f"sft ran out of memory. Set {ways}")
    assert text.endswith("PyTorch: CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert "\n" not in text
    assert ("gradient_checkpointing" in text) == ("gradient_checkpointing" not in options)
    assert not run.out.exists()


def opened(memory: str, here: World = ALONE, **options: Any) -> Any:
    """A model of a billion parameters on a device."""
    model = SimpleNamespace(parameters=lambda: [SimpleNamespace(numel=lambda: 10**9)])
    return SimpleNamespace(block=Sft(**options), device=SimpleNamespace(type=memory), model=model, here=here)


def test_activations_are_recomputed_where_the_states_fill_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 24 * 10**9))
    assert recomputes(opened("cuda"))
    assert not recomputes(opened("cpu"))
    assert not recomputes(opened("cuda", gradient_checkpointing=False))
    assert not recomputes(opened("cuda", lora={"r": 8}))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 80 * 10**9))
    assert not recomputes(opened("cuda"))


def test_what_is_not_installed_is_refused_with_what_to_do(context: Make) -> None:
    with pytest.raises(UserError, match="use_liger_kernel needs a GPU: this training runs on the CPU"):
        Sft(use_liger_kernel=True).train(examples(4), context(device="cpu"))
    with pytest.raises(UserError, match=r"attn_implementation flash_attention_2.*leave the option out"):
        Sft(attn_implementation="flash_attention_2").train(examples(4), context(device="cpu"))


def test_attention_can_be_chosen_and_is_reported(context: Make) -> None:
    report = Sft(max_steps=1, attn_implementation="eager").train(examples(4), context(device="cpu"))
    assert report.runtime["attention"] == "eager"


def test_an_adapter_of_another_base_is_refused(base: Path, context: Make, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from harness.engines.scratch import build

    other, adapter = tmp_path / "other", tmp_path / "adapter"
    build(other, hidden=64, layers=2, heads=2, vocab=300, seed=0, texts=["red green blue"], context=128)
    model = AutoModelForCausalLM.from_pretrained(other, dtype="float32")
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(adapter, save_embedding_layers=False)
    with pytest.raises(UserError, match=r"adapter.*base"):
        Sft(max_steps=1).train(examples(4), context(start=adapter))
