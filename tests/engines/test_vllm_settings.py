"""What `engine: vllm` and `engine: auto` say before any model is opened: no vLLM is needed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.engines import auto
from harness.engines.adapters import adapter_of
from harness.engines.base import ModelSpec
from harness.engines.open import capabilities, check, ready, settings
from harness.engines.vllm import checks, hosts, installed
from harness.engines.vllm.faults import died, explained, last_lines
from harness.engines.vllm.link import Link
from harness.engines.vllm.messages import Failed
from harness.engines.vllm.options import VllmOptions, arguments, cpu_cache_bytes
from harness.errors import Transient, UserError
from harness.loop.stage import Binding

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "vocab_size": 320,
}  # fmt: skip


def weights(file: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file of zeros."""
    at, header = 0, {}
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(CONFIG))
    (base / "tokenizer_config.json").write_text("{}")
    weights(base / "model.safetensors", {"model.layers.0.self_attn.q_proj.weight": [64, 64]})
    return base


@pytest.fixture
def adapter(folder: Path) -> Path:
    place = folder.parent / "adapter"
    place.mkdir()
    about = {"peft_type": "LORA", "r": 6, "base_model_name_or_path": str(folder), "bias": "none"}
    (place / "adapter_config.json").write_text(json.dumps(about))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    weights(place / "adapter_model.safetensors", {name.format("A"): [6, 64], name.format("B"): [64, 6]})
    return place


def spec(path: Path, **more: Any) -> ModelSpec:
    return ModelSpec(name="m", engine="vllm", path=path, revision="r", **more)


# --- options ---------------------------------------------------------------------------------------------------------
def test_an_unknown_option_is_refused_with_the_nearest_name(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no option 'max_model_length'; did you mean 'max_model_len'\?"):
        check(spec(folder, options={"max_model_length": 100}))


@pytest.mark.parametrize(("name", "value"), [("tensor_parallel_size", 0), ("max_num_seqs", "8"), ("enforce_eager", 1)])
def test_a_value_of_another_kind_is_refused_with_its_name(folder: Path, name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"option {name} is"):
        check(spec(folder, options={name: value}))


def test_a_limit_beyond_the_context_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="context of 512 tokens, and its option max_model_len is 1024"):
        check(spec(folder, options={"max_model_len": 1024}))


def test_options_that_change_answers_are_in_the_key_and_others_are_not(folder: Path) -> None:
    plain = Binding(spec=spec(folder)).identity()
    faster = Binding(spec=spec(folder, options={"max_num_seqs": 8, "tensor_parallel_size": 2})).identity()
    shorter = Binding(spec=spec(folder, options={"max_model_len": 100})).identity()
    assert plain == faster
    assert shorter == plain | {"settings": {"max_model_len": 100}}
    assert settings(spec(folder, options={"quantization": "fp8"})) == {"quantization": "fp8"}
    assert plain["engine"] == "vllm"
    assert plain["dtype"] == "float32"


def test_every_option_is_described() -> None:
    assert all(info.description for info in VllmOptions.model_fields.values())


def test_the_cache_of_a_cpu_has_room_for_rows_of_full_length_within_bounds(folder: Path) -> None:
    token = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, width, bytes
    assert cpu_cache_bytes(spec(folder), folder, VllmOptions()) == 256 * 2**20  # the lower bound
    long = {**CONFIG, "max_position_embeddings": 8192}
    (folder / "config.json").write_text(json.dumps(long))
    assert cpu_cache_bytes(spec(folder), folder, VllmOptions()) == 128 * 8192 * token
    (folder / "config.json").write_text(json.dumps({**long, "max_position_embeddings": 10**6}))
    assert cpu_cache_bytes(spec(folder), folder, VllmOptions()) == 4 * 2**30


def test_arguments_of_a_cpu_and_of_a_gpu(folder: Path, adapter: Path) -> None:
    cpu = arguments(spec(folder, dtype="bfloat16"), VllmOptions(), "cpu")
    assert (cpu["max_model_len"], cpu["dtype"], cpu["enforce_eager"]) == (513, "bfloat16", True)
    assert cpu["enable_chunked_prefill"] is False
    assert cpu["max_num_batched_tokens"] == 4096
    gpu = arguments(spec(folder), VllmOptions(max_model_len=100, tensor_parallel_size=2), "gpu", models=2)
    assert (gpu["max_model_len"], gpu["tensor_parallel_size"], gpu["gpu_memory_utilization"]) == (101, 2, 0.45)
    assert "enforce_eager" not in gpu
    set_by_user = arguments(spec(folder), VllmOptions(gpu_memory_utilization=0.8), "gpu", models=2)
    assert set_by_user["gpu_memory_utilization"] == 0.8
    lora = arguments(spec(adapter), VllmOptions(), "gpu", adapter=adapter_of(adapter))
    assert (lora["model"], lora["enable_lora"], lora["max_lora_rank"]) == (str(folder), True, 8)


# --- what is refused -------------------------------------------------------------------------------------------------
def test_without_vllm_a_run_is_refused_with_how_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "build", lambda: None)
    with pytest.raises(UserError, match=r"vLLM is not installed here: .*pip install 'loopbench\[vllm\]'"):
        ready(spec(folder))


def test_a_model_for_embeddings_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["BertModel"]}))
    with pytest.raises(UserError, match="is a text encoder, and the vllm engine writes and scores texts only"):
        check(spec(folder))


def test_what_vllm_offers(folder: Path) -> None:
    assert capabilities(spec(folder)) == {"generate", "continue", "logprobs", "weights"}
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert "turns" in capabilities(spec(folder))


@pytest.mark.parametrize(("made", "device"), [("cpu", "cuda"), ("gpu", "cpu")])
def test_the_installed_build_must_serve_the_device(folder: Path, made: str, device: str) -> None:
    with pytest.raises(UserError, match="was built for"):
        hosts.environments(spec(folder, device=device), VllmOptions(), made, 1)


def test_copies_share_the_devices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    options = VllmOptions(tensor_parallel_size=2, data_parallel_size=2)
    shares = [e["CUDA_VISIBLE_DEVICES"] for e in hosts.environments(spec(folder), options, "gpu", 1)]
    assert shares == ["4,5", "6,7"]
    assert hosts.environments(spec(folder, device="cuda:2"), VllmOptions(), "gpu", 1)[0]["CUDA_VISIBLE_DEVICES"] == "6"
    with pytest.raises(UserError, match="needs 8 devices .* its worker sees 4: run with fewer `--workers`"):
        hosts.environments(spec(folder), VllmOptions(tensor_parallel_size=8), "gpu", 1)


# --- adapters --------------------------------------------------------------------------------------------------------
def test_an_adapter_that_fits_is_served(adapter: Path) -> None:
    found = adapter_of(adapter)
    assert (found.rank, found.plain, found.base.name, found.modules) == (6, True, "base", frozenset({"q_proj"}))
    check(spec(adapter))


def test_an_adapter_of_another_base_is_refused_with_both_shapes(adapter: Path, folder: Path) -> None:
    weights(folder / "model.safetensors", {"model.layers.0.self_attn.q_proj.weight": [64, 32]})
    with pytest.raises(UserError, match=r"made for another model .*q_proj has 32 inputs in its base, and 64 in it"):
        check(spec(adapter))
    weights(folder / "model.safetensors", {"model.layers.0.mlp.weight": [64, 32]})
    with pytest.raises(UserError, match="which its base does not have"):
        check(spec(adapter))


@pytest.mark.parametrize("name", ["q_proj.weight", "q_proj.qweight"])  # bitsandbytes packs in place; GPTQ renames
def test_an_adapter_of_a_quantised_base_is_not_taken_for_another_ones(adapter: Path, folder: Path, name: str) -> None:
    weights(folder / "model.safetensors", {f"model.layers.0.self_attn.{name}": [2048, 1]})
    with pytest.raises(UserError, match="made for another model"):
        adapter_of(adapter)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | {"quantization_config": {"bits": 4}}))
    assert adapter_of(adapter).modules == {"q_proj"}


def test_an_adapter_fits_a_base_whose_files_name_and_turn_its_layers_otherwise(adapter: Path, folder: Path) -> None:
    """As GPT-2's: `h.0...` in the file is `transformer.h.0...` in the model, and weights are (inputs, outputs)."""
    weights(folder / "model.safetensors", {"layers.0.self_attn.q_proj.weight": [64, 64]})
    assert adapter_of(adapter).modules == {"q_proj"}
    about = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(about | {"fan_in_fan_out": True}))
    name = "base_model.model.transformer.h.0.attn.c_attn.lora_{}.weight"
    weights(adapter / "adapter_model.safetensors", {name.format("A"): [6, 64], name.format("B"): [192, 6]})
    weights(folder / "model.safetensors", {"h.0.attn.c_attn.weight": [64, 192]})
    assert adapter_of(adapter).modules == {"c_attn"}
    weights(folder / "model.safetensors", {"h.0.attn.c_attn.weight": [64, 96]})
    with pytest.raises(UserError, match="has 96 outputs in its base, and 192 in it"):
        adapter_of(adapter)


@pytest.mark.parametrize("header", ["[1]", '{"w": 5}', '{"w": {"dtype": "F32"}}', '{"w": {"shape": "4"}}', "no JSON"])
def test_weights_whose_header_is_none_are_refused_by_name(adapter: Path, folder: Path, header: str) -> None:
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(UserError, match=r"base/model.safetensors is no readable safetensors file \(.*copy it again"):
        adapter_of(adapter)


def test_an_adapter_whose_base_is_gone_is_refused(adapter: Path, folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="LoRA adapter of .* and no model folder is there"):
        check(spec(adapter))


def test_an_adapter_that_is_more_than_lora_is_refused_for_vllm_only(adapter: Path) -> None:
    about = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(about | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(UserError, match="not serve: write `engine: transformers`"):
        check(spec(adapter))


@pytest.mark.parametrize("name", ["lm_head.lora_A.weight", "model.embed_tokens.lora_embedding_A"])
def test_an_adapter_of_tied_ends_fits_its_base_and_is_not_plain(adapter: Path, name: str) -> None:
    weights(adapter / "adapter_model.safetensors", {f"base_model.model.{name}": [6, 64]})
    assert not adapter_of(adapter).plain


# --- auto ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "build", lambda: "gpu")
    monkeypatch.setattr(auto, "visible_devices", lambda: ["0"])
    monkeypatch.setattr(auto, "architectures", lambda: frozenset({"LlamaForCausalLM"}))
    monkeypatch.setattr(auto, "SMALLEST", 100)


@pytest.mark.usefixtures("gpu")
def test_auto_takes_vllm_for_a_large_model_on_a_gpu(folder: Path, adapter: Path) -> None:
    choice = auto.choose(folder, "auto")
    assert choice.engine == "vllm"
    assert "knows LlamaForCausalLM" in choice.why
    assert auto.choose(adapter, "auto").engine == "vllm"


@pytest.mark.usefixtures("gpu")
def test_auto_says_why_it_takes_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def why(path: Path | None = folder, device: str = "auto") -> str:
        choice = auto.choose(path, device)
        assert choice.engine == "transformers"
        return choice.why

    assert "made by the run" in why(None)
    assert "no CUDA device" in why(device="cpu")
    monkeypatch.setattr(auto, "SMALLEST", 2**30)
    assert "before vLLM would be open" in why()
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["NewForCausalLM"]}))
    assert "no code for the architecture NewForCausalLM" in why()
    monkeypatch.setattr(auto, "visible_devices", list)
    assert "no CUDA device" in why()
    monkeypatch.setattr(auto, "build", lambda: None)
    assert why() == "auto: vLLM is not installed"


def test_auto_keeps_the_options_of_the_engine_that_it_takes() -> None:
    given = {"batch_rows": 4, "max_num_seqs": 8, "typo": 1}
    assert auto.Choice("vllm", "").options(given) == {"max_num_seqs": 8, "typo": 1}
    assert auto.Choice("transformers", "").options(given) == {"batch_rows": 4, "typo": 1}


def test_the_choice_loads_no_model_library() -> None:
    code = (
        "import sys, pathlib; from harness.engines.auto import choose\n"
        "from harness.engines.vllm import checks, options\n"
        "choose(pathlib.Path('.'), 'auto'); print(sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_registry_of_an_installed_vllm_is_read_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "vllm" / "model_executor" / "models"
    place.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    table = '_TEXT_GENERATION_MODELS = {\n    "AForCausalLM": ("a", "A"),\n    "BForCausalLM": ("b", "B"),\n}\n'
    table += '_OTHER = {\n    "C": 1,\n}\n'
    (place / "registry.py").write_text(table)
    monkeypatch.syspath_prepend(str(tmp_path))
    installed.architectures.cache_clear()
    try:
        if "vllm" not in sys.modules:
            assert installed.architectures() == {"AForCausalLM", "BForCausalLM"}
    finally:
        installed.architectures.cache_clear()


# --- failures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("ValueError: Free memory on device (3/80 GiB) is less than desired", "`gpu_memory_utilization`"),
        ("ValueError: To serve at least one request with the model's max seq len (131072)", "Lower `max_model_len`"),
        ("ValueError: Available memory on node 0 (15.69/17.71 GiB) on startup", "`kv_cache_memory_bytes`"),
        ("ValueError: Bfloat16 is only supported on GPUs with compute capability", "another `dtype:`"),
        ("ValueError: Model architectures ['X'] are not supported for now.", "`engine: transformers`"),
        ("ValueError: Total number of attention heads (4) must be divisible by tensor parallel size (3).", "heads"),
        ("ModuleNotFoundError: No module named 'vllm'", "docs/engines.md"),
    ],
)
def test_failures_of_the_start_are_explained_in_one_paragraph(error: str, advice: str) -> None:
    told = explained("m", Failed("open", error), error, {})
    assert isinstance(told, UserError)
    assert advice in str(told)
    assert "could not be opened with vLLM" in str(told)
    assert "\n" not in str(told)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ValueError: Could not find checkpoint files", "It was started with"),
        ("ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "vLLM cannot serve this LoRA adapter"),
    ],
)
def test_a_warning_that_every_start_prints_is_not_taken_for_the_reason(error: str, said: str) -> None:
    """We ask for one place more than the context, and vLLM warns of that."""
    warning = "[model.py:2663] User-specified max_model_len (513) is greater than the derived max_model_len (512)."
    text = f"WARNING 11-22 09:44:01 {warning}\n(EngineCore pid=12) WARNING 11-22 09:44:02 {warning}\n{error}"
    told = str(explained("m", Failed("open", error), text, {"dtype": "float32"}))
    assert said in told
    assert "longer than the model's context" not in told
    real = str(explained("m", Failed("open", f"ValueError: {warning}"), "", {}))
    assert "longer than the model's context" in real


def test_an_unknown_failure_shows_what_was_said_without_progress_lines() -> None:
    log = "(W pid=1) INFO 11-22 all well\nTraceback:\n  boom\nKeyError: 'x'"
    told = str(explained("m", Failed("open", "KeyError: 'x'"), log, {"seed": 0}))
    assert "INFO" not in told
    assert "boom" in told
    assert "seed=0" in told
    assert last_lines(log, 1) == "  KeyError: 'x'"


def test_memory_that_runs_out_at_work_is_worth_another_try() -> None:
    assert isinstance(explained("m", Failed("work", "torch.OutOfMemoryError: CUDA out of memory"), "", {}), UserError)
    text = "torch.OutOfMemoryError: CUDA out of memory"
    assert isinstance(explained("m", Failed("work", text), text, {}), Transient)


def test_a_killed_process_is_named_with_its_signal() -> None:
    assert "killed by SIGKILL" in died("m", -9, "")
    assert "kv_cache_memory_bytes" in died("m", -9, "")
    assert "exit code 1" in died("m", 1, "boom")


def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", full)
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="no more processes") as caught:
        Link("m", {}, {})
    assert psutil.Process().num_fds() == before
    assert caught.tb is not None  # it holds the link, so that nothing was closed by being collected
