"""Opening models: what is refused and how, adapters, and the identity of a folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines.conftest import Opener, Requests

from harness.engines import capabilities, check, open_engine, revision_of
from harness.engines.base import Embeds, Generates, ModelSpec, Scores
from harness.engines.loading import load_model
from harness.engines.transformers import TransformersEngine
from harness.errors import UserError


def spec(folder: Path | None, **changes: Any) -> ModelSpec:
    return replace(ModelSpec(name="student", path=folder, device="cpu"), **changes)


def test_importing_the_engines_loads_no_model_library() -> None:
    heavy = "{'torch', 'transformers', 'tokenizers'}"
    code = f"import sys, harness.engines, harness.records.chat; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_open_engine_offers_what_was_promised(engine: TransformersEngine, tiny: Path) -> None:
    assert isinstance(engine, Generates)
    assert isinstance(engine, Scores)
    assert isinstance(engine, Embeds)
    assert capabilities(spec(tiny)) == {"generate", "continue", "turns", "logprobs", "embed", "weights"}
    assert capabilities(spec(None, engine="oracle")) == frozenset()
    assert capabilities(spec(tiny, engine="vllm")) == {"generate", "continue", "turns", "logprobs", "weights"}
    assert capabilities(spec(tiny, engine="openai")) == {"generate", "continue", "turns", "logprobs", "weights"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "oracle"}, "student is the oracle, which is no language model"),
        ({"engine": "mlx"}, "'mlx', which is not built into this version; built in: transformers, vllm, openai"),
        ({"engine": "openai", "path": None}, "the served model student needs `url:`, the server's URL"),
        ({"path": None}, "student names no folder"),
        ({"path": Path("nowhere")}, "should be in nowhere, but there is no config.json"),
        ({"device": "quantum"}, "device 'quantum' is unknown"),
        ({"dtype": "int3"}, "dtype 'int3' is unknown: choose one of float32, bfloat16, float16, auto"),
        ({"options": {"batch_size": 4}}, "no option 'batch_size'; it has batch_rows, batch_tokens, store_mib"),
        ({"options": {"batch_rows": 0}}, "batch_rows is 0: give a whole number of at least 1"),
    ],
)
def test_what_cannot_be_opened_is_a_user_error(tiny: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_engine(spec(tiny, **changes))


def test_a_gpu_that_is_not_there_is_named(tiny: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match="PyTorch sees no GPU here"):
        open_engine(spec(tiny, device="cuda:0"))


def test_check_refuses_the_same_without_loading(tiny: Path) -> None:
    check(spec(tiny))
    with pytest.raises(UserError, match="is the oracle"):
        check(spec(tiny, engine="oracle"))
    with pytest.raises(UserError, match=r"no config\.json"):
        check(spec(tiny / "nowhere"))


def test_damaged_weights_are_named(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(UserError, match="the model in .*damaged cannot be loaded"):
        open_engine(spec(folder))


def test_missing_weights_are_not_made_up(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny, tmp_path / "partial")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"incomplete: 1 tensors are missing, model\.layers\.1\.mlp\.up_proj\.weight"):
        open_engine(spec(folder))


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny model, with weights that change what it writes."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config).save_pretrained(folder)
    assert not (folder / "config.json").exists()
    return folder


def test_an_adapter_is_merged_into_its_base(adapter: Path, tiny: Path, opener: Opener, requests: Requests) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    engine = opener(adapter)
    assert engine._forward is not None
    ids = torch.arange(20, 40)[None]
    with torch.inference_mode():
        wanted = (
            PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), adapter).eval()(input_ids=ids).logits
        )
        got = engine._forward.model(input_ids=ids).logits
        base = AutoModelForCausalLM.from_pretrained(tiny)(input_ids=ids).logits
    np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=1e-3)
    assert float((base - wanted).abs().max()) > 0.1
    assert engine.chat.template_hash == opener().chat.template_hash
    assert len(list(engine.generate(requests(3)))) == 3


def test_an_adapter_of_a_deeper_base_is_refused_when_planned_and_when_opened(adapter: Path, tmp_path: Path) -> None:
    """PEFT itself drops the updates of layers that a base does not have, and merges the rest."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(adapter, tmp_path / "deeper")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    more = {name.replace("layers.0", "layers.2"): value.clone() for name, value in tensors.items()}
    save_file(tensors | more, file)
    for refused in (check, open_engine, lambda one: load_model(one.path, one.dtype, "cpu")):
        with pytest.raises(UserError, match="was made for another model than .*layers.2.*its base does not have"):
            refused(spec(folder))


def test_an_adapter_without_its_base_is_explained(adapter: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(adapter, tmp_path / "lonely")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/some-model"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="LoRA adapter of 'somebody/some-model', and no model folder is there"):
        open_engine(spec(folder))
    with pytest.raises(UserError, match="no model folder is there"):
        revision_of(folder)


def test_the_revision_is_that_of_the_contents(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    one, two = (shutil.copytree(tiny, tmp_path / name) for name in ("one", "two"))
    assert revision_of(one) == revision_of(two) == revision_of(tiny)
    (one / "README.md").write_text("a note")
    (one / "optimizer.pt").write_bytes(b"state")
    assert revision_of(one) == revision_of(two)
    for file in ("config.json", "model.safetensors", "chat_template.jinja", "tokenizer.json"):
        before = revision_of(one)
        (one / file).write_bytes((one / file).read_bytes() + b" ")
        assert revision_of(one) != before
    assert revision_of(adapter) not in {revision_of(tiny), revision_of(two)}


def test_an_adapters_revision_changes_with_its_base(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    base, folder = shutil.copytree(tiny, tmp_path / "base"), shutil.copytree(adapter, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "base"}))
    before = revision_of(folder)
    (base / "config.json").write_text((base / "config.json").read_text() + " ")
    assert revision_of(folder) != before


def test_a_folder_without_weights_has_no_revision(tiny: Path, tmp_path: Path) -> None:
    shutil.copy(tiny / "config.json", tmp_path)
    with pytest.raises(UserError, match="holds no"):
        revision_of(tmp_path)
    with pytest.raises(UserError, match="there is no model folder"):
        revision_of(tmp_path / "nowhere")
