"""The typed form of a model that a role is bound to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.config.base import Strict

EngineName = Literal["auto", "transformers", "vllm", "openai", "oracle", "hashed"]


class Scratch(Strict):
    """A Llama-architecture student with random weights and a byte-level BPE tokenizer trained on texts of the data."""

    hidden: Annotated[int, Field(ge=8)] = 128
    layers: Annotated[int, Field(ge=1)] = 4
    heads: Annotated[int, Field(ge=1)] = 4
    vocab: Annotated[int, Field(ge=300)] = 4096
    tokenizer_from: str = "pool"
    """The name under `data:` whose texts the tokenizer is trained on."""
    seed: int = 0


class Prices(Strict):
    """What a served model costs, in US dollars per million tokens."""

    prompt: Annotated[float, Field(ge=0)]
    completion: Annotated[float, Field(ge=0)]


class Model(Strict):
    """A model bound to a role. Exactly one of `path`, `scratch`, `url` and `judge` says what it is.

    `judge` names a programmatic judge block (`oracle` for `pocket/oracle`) that stands where a judge model would.
    `path` is resolved; `written` is what the file said, for records that should not hold a machine's folders.
    `options` are the engine's runtime settings, or the judge block's options.
    """

    given: ClassVar[tuple[str, ...]] = ("name", "written", "prompts_written", "tokenizer_written")
    name: str
    written: str = ""
    path: str | None = None
    scratch: Scratch | None = None
    url: str | None = None
    judge: str | None = None
    engine: EngineName = "auto"
    """Unsaid: `openai` for a URL, `oracle` for a judge, else `transformers`. `auto`, where it is written for a folder,
    stays until the plan is made: then `harness.engines.auto` picks by the machine and the model, and says why."""
    model: str | None = None
    """The name under which a server at `url` knows the model."""
    tokenizer: str | None = None
    """Of a served model: the folder with its tokenizer and chat template (resolved). With it the model is asked by
    token ids, which servers such as vLLM's take: then it can also continue texts, score them and write user's turns."""
    tokenizer_written: str = ""
    """That folder as the file said it, for records."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    prompts: str = "general"
    """Prompt pack: `general` for real models, `pocket` for the pocket ones, or the path of a pack (resolved)."""
    prompts_written: str = ""
    """The path of a pack as the file said it, for records."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key: never the key."""
    revision: str | None = None
    """Of a served model: says which weights answer, in place of the URL, so that a server may move."""
    prices: Prices | None = None
    """Of a served model; `limits.usd` needs them."""
    concurrency: Annotated[int, Field(ge=1, le=512)] | None = None
    """Of a served model: calls under way at once, of all processes together (default 32; 128 for one served here)."""
    deadline: Annotated[float, Field(gt=0)] | None = None
    """Of a served model: seconds that one request may take, all tries and waits together (default 600; 3,600 for one
    served here)."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Of a served model: seconds that one try may take (default 120; 3,600 for one served here)."""
    length_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """Of a served model: what its server calls the length limit (default `max_tokens`)."""
    body: Mapping[str, Any] = Field(default_factory=dict)
    """Of a served model: further fields of every request; null takes one out (`seed: null`)."""
    options: Mapping[str, Any] = Field(default_factory=dict)
