"""The options of `engine: vllm`, and what they become for vLLM. Importing this loads neither vLLM nor torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from harness.engines.adapters import Adapter
from harness.engines.base import ModelSpec
from harness.engines.vllm.installed import Build
from harness.errors import UserError
from harness.records.templates import settings_of

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CPU_ROWS = 128
"""Rows of full length that the key/value cache of a CPU holds by default, as far as its bounds allow."""
CPU_TOKENS = 4096
"""Tokens of one step on a CPU, by default."""
CPU_CACHE = (256 * 2**20, 4 * 2**30)
"""Bounds of that default in bytes: a desktop has other things to hold."""
GPU_SHARE = 0.9
"""vLLM takes so much of a GPU's memory by default, shared evenly by the models that a stage asks in turn, and by the
workers that use the GPU."""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for; an adapter takes the next larger one."""
TOP_LOGPROBS = 1024
"""Log-probabilities per token that may be asked for."""

_Count = Annotated[int, Field(ge=1)]


def _option(what: str, unit: str | None = None, changes: bool = False, default: Any = None) -> Any:
    extra: JsonDict = {"unit": unit, "class": "identity" if changes else "runtime", "source": None}
    return Field(default, description=what, json_schema_extra=extra)


class VllmOptions(BaseModel):
    """Options of a model with `engine: vllm`, beside `dtype` and `device`; all but ours have vLLM's own names.

    What is not set is left to vLLM, except where the description says otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tensor_parallel_size: _Count = _option(
        "Devices that share each layer. A worker sees its share of the devices: with 4 GPUs and `--workers 1` all "
        "4, with `--workers 2` two each.",
        "devices",
        default=1,
    )
    pipeline_parallel_size: _Count = _option("Devices that hold the layers one after the other.", "devices", default=1)
    data_parallel_size: _Count = _option(
        "Copies of the model, each an engine process on its share of the worker's devices; requests are dealt out to "
        "them. (Ours: vLLM's own setting of this name works for servers only.)",
        "copies",
        default=1,
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = _option(
        f"Share of a GPU's memory for weights and key/value cache. Default: {GPU_SHARE}, divided by the number of "
        "models that a stage asks in turn, and by the number of workers that share the GPU."
    )
    kv_cache_memory_bytes: Annotated[int, Field(ge=2**20)] | None = _option(
        f"Size of the key/value cache. Default on a GPU: what `gpu_memory_utilization` leaves; on a CPU: room for "
        f"{CPU_ROWS} rows of full length, between {CPU_CACHE[0] // 2**20} MiB and {CPU_CACHE[1] // 2**30} GiB.",
        "bytes",
    )
    max_model_len: Annotated[int, Field(ge=2)] | None = _option(
        "Longest sequence, prompt and answer together. Default: the model's context. Longer prompts are refused, so "
        "this is part of the stage key.",
        "tokens",
        changes=True,
    )
    max_num_seqs: _Count | None = _option("Rows that are decoded at once.", "rows")
    max_num_batched_tokens: _Count | None = _option("Tokens of one step, over all rows.", "tokens")
    block_size: _Count | None = _option("Granularity of the key/value cache and of what prompts share.", "tokens")
    enforce_eager: bool | None = _option(
        "No torch.compile and no CUDA graphs: opens sooner, writes slower. Default: true on a CPU, false on a GPU."
    )
    enable_prefix_caching: bool = _option("Prompts that begin alike are read once.", default=True)
    enable_chunked_prefill: bool | None = _option("Long prompts are read in parts, between steps of other rows.")
    async_scheduling: bool | None = _option("Prepares the next step while the GPU works on this one.")
    cpu_offload_gb: Annotated[float, Field(ge=0)] | None = _option("Weights that are kept in main memory.", "GiB")
    quantization: str | None = _option(
        "Method of quantised weights (`awq`, `gptq`, `fp8`, ...); part of the stage key.", changes=True
    )
    kv_cache_dtype: str | None = _option(
        "Number format of the key/value cache (`fp8`, ...); part of the stage key.", changes=True
    )
    attention_backend: str | None = _option("Kernel of the attention (`FLASH_ATTN`, `FLASHINFER`, ...).")
    load_format: str | None = _option("How weights are read (`safetensors`, `sharded_state`, ...).")
    max_loras: _Count = _option("LoRA adapters that are used in one batch.", "adapters", default=1)

    @classmethod
    def of(cls, spec: ModelSpec) -> VllmOptions:
        """The options of a model.

        Raises:
            UserError: an option that vLLM does not have here, or a value of another kind.
        """
        known = sorted(cls.model_fields)
        for name in spec.options:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                raise UserError(
                    f"the model {spec.name}: the vllm engine has no option {name!r}{hint} It has {', '.join(known)}; "
                    "`loopbench show vllm` explains them."
                )
        try:
            return cls(**spec.options)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"the model {spec.name}: the vllm option {first['loc'][0]} is {first['input']!r}: {first['msg']}. "
                "`loopbench show vllm` explains the options."
            ) from error

    @property
    def identity(self) -> dict[str, Any]:
        """Options that decide what the model answers, as far as they are set."""
        names = [n for n, info in type(self).model_fields.items() if _class(info.json_schema_extra) == "identity"]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def devices(self) -> int:
        """Devices of one copy."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


def arguments(
    spec: ModelSpec, options: VllmOptions, build: Build, models: int = 1, adapter: Adapter | None = None
) -> dict[str, Any]:
    """What vLLM's `LLM(...)` (or, as flags, its server) is started with.

    It gets one place more than the context (`VLLM_ALLOW_LONG_MAX_MODEL_LEN`): scoring must ask for a token that nobody
    reads. `build` says for what the installed vLLM was made, `models` how many share the device, and `adapter` that
    the model is LoRA weights over the base that is opened.

    Raises:
        UserError: `max_model_len` is longer than the model's context.
    """
    folder = str(adapter.base if adapter is not None else spec.path)
    made: dict[str, Any] = {}
    if (limit := limit_of(spec, options, adapter)) is not None:
        made["max_model_len"] = limit + 1
    if build == "cpu":
        made |= {"enforce_eager": True, "kv_cache_memory_bytes": cpu_cache_bytes(spec, Path(folder), options)}
        # On a CPU, vLLM 0.32 fails where the prompt of a seeded request is read in parts.
        made |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(CPU_TOKENS, (limit or 0) + 1)}
    else:
        made["gpu_memory_utilization"] = round(GPU_SHARE / max(1, models), 3)
    made |= options.model_dump(exclude_none=True, exclude={"data_parallel_size", "max_loras", "max_model_len"})
    made |= {"model": folder, "tokenizer": folder, "dtype": spec.dtype, "seed": 0}
    made |= {"generation_config": "vllm", "max_logprobs": TOP_LOGPROBS}
    if adapter is not None:
        rank = next((rank for rank in LORA_RANKS if rank >= adapter.rank), LORA_RANKS[-1])
        made |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": options.max_loras, "max_cpu_loras": 8}
        # Only these: where vLLM 0.32 makes room for updates of the last layer, it cannot score prompts.
        if adapter.modules:
            made["lora_target_modules"] = sorted(adapter.modules)
    return made


def limit_of(spec: ModelSpec, options: VllmOptions, adapter: Adapter | None = None) -> int | None:
    """The longest sequence, prompt and answer together; None where neither the model nor an option states one.

    Raises:
        UserError: the option is longer than the model's context.
    """
    own, wanted = context_of(adapter.base if adapter is not None else spec.path), options.max_model_len
    if own is not None and wanted is not None and wanted > own:
        raise UserError(
            f"the model {spec.name} has a context of {own} tokens, and its option max_model_len is {wanted}: lower "
            "it or leave it out."
        )
    return wanted or own


def cpu_cache_bytes(spec: ModelSpec, folder: Path | None, options: VllmOptions) -> int:
    """The default size of the key/value cache on a CPU, from the shapes in the model's configuration."""
    config = _text_config(folder)
    try:
        heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
        width = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
        token = 2 * int(config["num_hidden_layers"]) * heads * width * DTYPE_BYTES.get(spec.dtype, 4)
    except (KeyError, TypeError, ZeroDivisionError):
        return CPU_CACHE[1]
    length = options.max_model_len or int(config.get("max_position_embeddings") or 2048)
    low, high = CPU_CACHE
    return max(low, min(CPU_ROWS * length * token, high))


def context_of(folder: Path | None) -> int | None:
    """The longest sequence that a model's configuration states."""
    stated = (_text_config(folder).get(name) for name in ("n_positions", "max_position_embeddings", "n_ctx"))
    found = next((value for value in stated if value is not None), None)
    return None if found is None else int(found)


def _text_config(folder: Path | None) -> Mapping[str, Any]:
    config = settings_of(folder, "config.json") if folder is not None else {}
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def _class(extra: Any) -> str | None:
    return extra.get("class") if isinstance(extra, dict) else None
