"""Tokenizer, chat template, shipped models and training."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness.pocket import MODELS, model_path
from harness.pocket.batches import BATCH_TOKENS, chat_row, document_row, pool_of_batches
from harness.pocket.chats import chat, message, prompts
from harness.pocket.check import Player
from harness.pocket.documents import document
from harness.pocket.leaves import write
from harness.pocket.train import GROWN_PEAK, Run, rate
from harness.pocket.world import CATEGORIES

KINDS = ("single", "double", "steer", "rate", "critique", "rewrite", "restate", "propose")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path("pocket/chat"))


def test_both_models_ship_the_tokenizer_that_the_code_builds() -> None:
    from harness.pocket.tokens import build

    built = json.loads(build().backend_tokenizer.to_str())
    for name in MODELS:
        shipped = json.loads((model_path(name) / "tokenizer.json").read_text(encoding="utf-8"))
        assert shipped["model"] == built["model"]
    assert len(built["model"]["vocab"]) <= 512


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_chats_survives_the_tokenizer(tokenizer: Any, kind: str) -> None:
    rng = Random(kind)
    for _ in range(200):
        for part in chat(rng, None, kind).messages:
            ids = tokenizer(part["content"], add_special_tokens=False).input_ids
            assert tokenizer.unk_token_id not in ids, part
            assert tokenizer.decode(ids) == part["content"]


@pytest.mark.parametrize("retold", [0.0, 1.0])
def test_text_of_documents_survives_the_tokenizer(tokenizer: Any, retold: float) -> None:
    rng = Random(2)
    for _ in range(300):
        text = document(rng, retold=retold)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
        assert tokenizer(tokenizer.decode(ids), add_special_tokens=False).input_ids == ids


def test_numbers_are_digits_and_special_tokens_are_whole(tokenizer: Any) -> None:
    tokens = tokenizer.convert_ids_to_tokens(
        tokenizer("<s><|user|>12 is\n3<|end|>", add_special_tokens=False).input_ids
    )
    assert tokens == ["<s>", "<|user|>", "▁1", "2", "▁is", "▁⏎", "▁3", "<|end|>"]
    assert tokenizer.eos_token == "<|end|>"


def test_training_rows_are_what_the_chat_template_renders(tokenizer: Any) -> None:
    rng = Random(6)
    for kind in KINDS:
        drawn = chat(rng, "train", kind)
        text = tokenizer.apply_chat_template(list(drawn.messages), tokenize=False)
        assert chat_row(drawn, tokenizer)[0] == tokenizer(text, add_special_tokens=False).input_ids


def test_assistant_mask_covers_answers_and_their_end(tokenizer: Any) -> None:
    messages = [
        message("system", "you help with math ."),
        message("user", "now double that ."),
        message("assistant", "#### 4"),
    ]
    out = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
    masked = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert tokenizer.convert_ids_to_tokens(masked) == ["▁####", "▁4", "<|end|>"]


def test_user_turns_of_asked_for_forms_do_not_train(tokenizer: Any) -> None:
    drawn = chat(Random(1), "train", "rate")
    labels = chat_row(drawn, tokenizer).labels
    answer = tokenizer(drawn.messages[-1]["content"], add_special_tokens=False).input_ids
    assert [label for label in labels if label >= 0] == [*answer, tokenizer.eos_token_id]
    row = chat_row(chat(Random(1), "train", "single"), tokenizer)
    assert row.labels[1:] == row.ids[1:]


def test_documents_hold_neither_chat_tokens_nor_the_answer_form(tokenizer: Any) -> None:
    rng = Random(9)
    chat_ids = set(tokenizer.convert_tokens_to_ids(["<|system|>", "<|user|>", "<|assistant|>"]))
    for _ in range(500):
        text = document(rng, retold=0.5)
        assert "####" not in text
        assert "answer :" not in text
        assert not chat_ids & set(document_row(text, tokenizer)[0])


@pytest.mark.parametrize(("name", "limit"), [("pocket/base", 1_000_000), ("pocket/chat", 2_500_000)])
def test_shipped_models_load_within_their_size(name: str, limit: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_path(name), dtype=torch.float32)
    assert model.config.model_type == "llama"
    assert sum(p.numel() for p in model.parameters()) <= limit


def test_the_shipped_taxonomy_is_what_the_code_writes(tmp_path: Path) -> None:
    write(tmp_path)
    shipped = model_path("pocket/base").parent.parent / "taxonomy"
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(shipped) for path in shipped.rglob("*") if path.is_file())
    for name in names:
        assert (tmp_path / name).read_text() == (shipped / name).read_text(), name


def test_prompt_pack_has_every_asked_for_form() -> None:
    assert set(prompts()) == {"steer", "rate", "rewrite", "critique", "propose", "restate"}
    assert all("{category}" in prompts()["steer"]["system"].format(category="{category}") for _ in CATEGORIES)


def test_learning_rate_warms_up_stays_and_falls() -> None:
    assert rate(0, 0, 1000) == pytest.approx(0.01)
    assert rate(500, 700, 1000) == 1.0
    assert rate(500, 860, 1000) == pytest.approx(0.5)
    assert rate(500, 1000, 1000) == 0.0
    assert rate(500, 0, 1000, grown=True) == rate(500, 350, 1000, grown=True) == GROWN_PEAK
    assert rate(500, 675, 1000, grown=True) == pytest.approx(GROWN_PEAK / 2)


def test_a_resumed_run_continues_as_if_never_stopped(tmp_path: Path) -> None:
    run = Run("base", tmp_path / "one", 10**6)
    run.learn(pool_of_batches("base", run.rng, run.tokenizer)[0][:8])
    run.save()
    twin = Run("base", tmp_path / "one", 10**6)
    twin.resume()
    mine, theirs = (pool_of_batches("base", each.rng, each.tokenizer) for each in (run, twin))
    assert mine == theirs
    assert all(len(batch) * max(len(row.ids) for row in batch) <= BATCH_TOKENS for batch in mine)
    assert run.learn(mine[0][:8]) == twin.learn(theirs[0][:8])


def test_the_check_asks_a_model_through_the_engine_of_experiments() -> None:
    player = Player(model_path("pocket/chat"))
    chats = [[message("user", "now double that .")], [message("user", "which is heavier , gold or tin ?")]]
    assert player.answer(chats) == player.answer(chats[::-1])[::-1]
    assert player.answer(chats)[1].endswith("answer : gold")
    sampled = player.ask_itself([None] * 6, seed=1)
    assert len(set(sampled)) > 1
    assert player.ask_itself([None] * 6, seed=1) == sampled
