"""Models built from nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engines import revision_of
from harness.engines.scratch import build
from harness.errors import UserError
from harness.records.chat import ChatFormat
from harness.records.example import Message

TEXTS = ["Write a poem about 12 cats.\n", "naïve café 中文 🙂", "", "def f(x):\n\treturn x"] * 5


def make(folder: Path, **changes: int) -> Path:
    sizes = {"hidden": 32, "layers": 1, "heads": 2, "vocab": 300, "seed": 0} | changes
    build(folder, texts=TEXTS, **sizes)
    return folder


def test_building_twice_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    one, two, other = make(tmp_path / "one"), make(tmp_path / "two"), make(tmp_path / "other", seed=1)
    assert revision_of(one) == revision_of(two) != revision_of(other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_any_text_survives_its_tokenizer(tmp_path: Path) -> None:
    chat = ChatFormat.from_folder(make(tmp_path))
    for text in (*TEXTS, "Ünseen  words\r\n\x00 and ✓"):
        assert chat.decode(chat.encode(text)) == text
    assert len(chat.encode("2024")) == 4


def test_its_template_marks_the_assistants_tokens(tmp_path: Path) -> None:
    chat = ChatFormat.from_folder(make(tmp_path))
    talk: list[Message] = [{"role": "user", "content": "Hi 1"}, {"role": "assistant", "content": "Ho 2"}]
    ids, mask = chat.mask(talk)
    assert chat.decode([token for token, flag in zip(ids, mask, strict=True) if flag]) == "Ho 2"
    assert ids[max(at for at, flag in enumerate(mask) if flag)] == chat.eos
    assert chat.bos is None
    assert ids.count(chat.eos) == 2


def test_the_config_is_what_was_asked_for(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(make(tmp_path, hidden=64, layers=2, heads=4))
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (64, 2, 4)
    assert config.tie_word_embeddings
    assert config.vocab_size <= 300
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"heads": 3}, "no even width per head"), ({"vocab": 200}, "vocab 200 is too small: 256 bytes")],
)
def test_sizes_that_make_no_model_are_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, **changes)


def test_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to learn from"):
        build(tmp_path, hidden=32, layers=1, heads=2, vocab=300, seed=0, texts=["", ""])
