"""Reward models and text encoders: one value per row, whatever its neighbours, as the plain model gives it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.blocks.kinds import Context, Embed, Reward, Tolerant
from harness.engines import capabilities, open_engine, revision_of
from harness.engines.base import ModelSpec
from harness.engines.families import family_of
from harness.errors import UserError
from harness.loop.drive import Desk, RowFailed, drive
from harness.records.example import Message

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "dog", "two", "cats", "run", "far"]
SAID = ("a red dog", "two cats run far and away over there", "a", "two dog")


def asks(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content="what ?"), Message(role="assistant", content=text))


def sharpened(model: Any) -> Any:
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 6
    return model.eval()


@pytest.fixture(scope="module", params=["padding", "no padding"])
def judge(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with one logit, that knows a padding token or none."""
    import torch
    from transformers import AutoConfig, LlamaForSequenceClassification

    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("judge") / "model")
    config = AutoConfig.from_pretrained(tiny, num_labels=1)
    if request.param == "no padding":
        config.pad_token_id = None
    torch.manual_seed(0)
    sharpened(LlamaForSequenceClassification(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with a vocabulary of eleven words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=12).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    sharpened(BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **sizes))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("LlamaForCausalLM", "causal"),
        ("GPT2LMHeadModel", "causal"),
        ("DebertaV2ForSequenceClassification", "reward"),
        ("MPNetModel", "encoder"),
        ("RobertaForMaskedLM", "encoder"),
    ],
)
def test_a_folders_architecture_says_what_it_is(architecture: str, family: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert family_of(tmp_path) == family
    assert family_of(tmp_path / "nowhere") == "causal"


def spec(folder: Path) -> ModelSpec:
    return ModelSpec(name="m", path=folder, device="cpu")


def test_rewards_are_those_of_the_plain_model_one_row_at_a_time(judge: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    assert capabilities(spec(judge)) == {"reward"}
    engine: Any = open_engine(spec(judge))
    ids = [engine.rendered(asks(text)) for text in SAID]
    model = AutoModelForSequenceClassification.from_pretrained(judge).eval()
    with torch.inference_mode():
        wanted = [float(model(torch.tensor([row])).logits[0, 0]) for row in ids]
    assert engine.reward(ids).tolist() == pytest.approx(wanted, abs=1e-4)
    assert len({round(value, 3) for value in wanted}) == len(SAID)
    assert engine.chat.decode(ids[0]).endswith("a red dog\n"), "the next turn is not opened"


def test_a_block_asks_for_rewards_by_conversation(judge: Path) -> None:
    engine: Any = open_engine(spec(judge))

    def ask() -> Any:
        long = asks("dog " * 500)
        return (yield Tolerant([Reward(model="reward", messages=m) for m in (asks("a"), long, asks("two"))]))

    desk = Desk(lambda role: engine, Context())
    first, second, third = drive({"row": ask()}, desk)["row"]
    assert [first, third] == pytest.approx(engine.reward([engine.rendered(asks(t)) for t in ("a", "two")]).tolist())
    assert isinstance(second, RowFailed)
    assert "exceeds the context of 128" in str(second)
    assert desk.cost["read_tokens"] > 0


def test_a_classifier_with_several_labels_is_no_reward_model(judge: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, LlamaForSequenceClassification

    folder = shutil.copytree(judge, tmp_path / "three")
    LlamaForSequenceClassification(AutoConfig.from_pretrained(judge, num_labels=3)).save_pretrained(folder)
    with pytest.raises(UserError, match="a classifier with 3 labels; a reward model has one logit"):
        open_engine(spec(folder))


def test_an_encoder_gives_the_mean_over_a_texts_own_tokens(encoder: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    assert capabilities(spec(encoder)) == {"embed"}
    engine: Any = open_engine(spec(encoder))
    assert engine.context == 12
    model, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    with torch.inference_mode():
        wanted = [model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0).numpy() for t in SAID]
    np.testing.assert_allclose(engine.embed_texts(SAID), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("file", "content", "asked"),
    [
        ("1_Pooling/config.json", {"pooling_mode_lasttoken": True}, "lasttoken"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            "mean_tokens, cls",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "max"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "cls, mean"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "a prompt before each text"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "Dense"),
    ],
)
def test_a_folder_that_asks_for_other_vectors_is_refused(
    encoder: Path, tmp_path: Path, file: str, content: Any, asked: str
) -> None:
    folder = shutil.copytree(encoder, tmp_path / "other")
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"asks for {asked}.*which would give other vectors"):
        open_engine(spec(folder))


def test_a_folders_own_longest_text_counts(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "short")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    engine: Any = open_engine(spec(folder))
    assert engine.context == 6


def test_an_encoder_pools_as_its_folder_says_and_cuts_long_texts(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "pooled")
    before = revision_of(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Normalize"}]))
    assert revision_of(folder) != before
    engine: Any = open_engine(spec(folder))

    def ask() -> Any:
        return (yield [Embed(model="e", text=t) for t in ("a dog " * 50, "a dog " * 60, "two")])

    found = np.stack(drive({"row": ask()}, Desk(lambda role: engine, Context()))["row"])
    assert np.linalg.norm(found, axis=1) == pytest.approx([1.0] * 3)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("unit", [False, True])
def test_vectors_are_those_of_sentence_transformers(encoder: Path, tmp_path: Path, mode: str, unit: bool) -> None:
    reason = "sentence-transformers is not installed: it is only compared with"
    library = pytest.importorskip("sentence_transformers", reason=reason)
    modules = pytest.importorskip("sentence_transformers.models", reason=reason)
    reader = modules.Transformer(str(encoder), max_seq_length=10)
    parts = [reader, modules.Pooling(32, pooling_mode=mode)]
    theirs = library.SentenceTransformer(modules=[*parts, modules.Normalize()] if unit else parts, device="cpu")
    theirs.save(str(tmp_path / "saved"))
    texts = [*SAID, "a red dog " * 20, "two"]
    engine: Any = open_engine(spec(tmp_path / "saved"))
    np.testing.assert_allclose(engine.embed_texts(texts), theirs.encode(texts), atol=1e-5)
