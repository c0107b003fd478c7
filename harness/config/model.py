"""The typed, frozen form of a configuration: what every other part of loopbench reads.

What YAML states directly is a pydantic model (unknown keys refused); what is put together from several files is a
frozen dataclass. Block options are instances of the blocks' own classes, which come from the registry that is handed
to `harness.config.load`: this package never imports a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from harness.config.leaks import Leaks
from harness.config.sentinels import Sentinels
from harness.records.values import Count, Share

Verb = Literal["synthesize", "score", "select", "pair", "finetune"]
VERBS: tuple[Verb, ...] = ("synthesize", "score", "select", "pair", "finetune")
EngineName = Literal["auto", "transformers", "vllm", "openai", "oracle"]
NAME = r"[A-Za-z0-9][A-Za-z0-9_/-]*"
"""Names of recipes, steps, roles and data sources. No dot, `@` or bracket: those address parts of them."""


class BlockLike(Protocol):
    """What the configuration asks of a block instance; `harness.blocks.base.Block` is one."""

    kind: ClassVar[Any]
    name: ClassVar[str]
    version: ClassVar[int]

    def roles(self) -> dict[str, str]: ...
    def identity_options(self) -> dict[str, Any]: ...


class Registry(Protocol):
    """Where block classes come from; the module `harness.blocks.registry` is one."""

    def get(self, kind: Any, name: str) -> Any:
        """The pydantic class of a block; raises a UserError that names the nearest for an unknown one."""
        ...


class Strict(BaseModel):
    """Base of the models read from YAML: frozen, unknown keys refused, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    given: ClassVar[tuple[str, ...]] = ()
    """Fields that the loader fills in and a file may not."""


# --- models -----------------------------------------------------------------------------------------------------------
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

    given: ClassVar[tuple[str, ...]] = ("name", "written", "prompts_written")
    name: str
    written: str = ""
    path: str | None = None
    scratch: Scratch | None = None
    url: str | None = None
    judge: str | None = None
    engine: EngineName = "auto"
    """`auto` never leaves the loader: it becomes `openai` for a URL, `oracle` for a judge, else `transformers`."""
    model: str | None = None
    """The name under which a server at `url` knows the model."""
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
    """Of a served model: calls under way at once, of all processes together (default 32)."""
    deadline: Annotated[float, Field(gt=0)] | None = None
    """Of a served model: seconds that one request may take, all tries and waits together (default 600)."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Of a served model: seconds that one try may take (default 120)."""
    length_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """Of a served model: what its server calls the length limit (default `max_tokens`)."""
    body: Mapping[str, Any] = Field(default_factory=dict)
    """Of a served model: further fields of every request; null takes one out (`seed: null`)."""
    options: Mapping[str, Any] = Field(default_factory=dict)


# --- data -------------------------------------------------------------------------------------------------------------
class Withhold(Strict):
    """Sets rows of a source apart: `rows` prompts, drawn by `seed` and the prompt's text alone.

    The draw does not depend on the order of the file, and rows that share a prompt fall on the same side.
    """

    rows: Annotated[int, Field(ge=1)]
    seed: int = 0


class Dataset(Strict):
    """A named source of examples, everything resolved. `part: withheld` reads only what `withhold` sets apart."""

    given: ClassVar[tuple[str, ...]] = ("name", "written")
    name: str
    kind: Literal["pocket", "file"] = "file"
    description: str = ""
    path: str | None = None
    url: str | None = None
    """Where the file has both a path and a URL, the path counts if the file is there; the other is then None."""
    written: str = ""
    """The path or URL as the file said it, for records and messages."""
    sha256: str | None = None
    """Of the file as named (packed, where it is packed)."""
    sha256_unpacked: str | None = None
    format: Literal["auto", "messages", "alpaca", "sharegpt", "prompt_completion", "preference", "rows"] = "auto"
    """`rows`: no examples, but rows that a suite or a judge reads as they are."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """At most this many rows, from the start of the source; rows that are dropped do not count."""
    require_answer: bool | Literal["drop"] = True
    """What a row without an answer is: a mistake (true), fine (false), or left out and counted (drop)."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """Renames: name that the format expects -> name in the file."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the pocket generator (rows, seed, defects, ...)."""
    withhold: Withhold | None = None
    part: Literal["rest", "withheld"] = "rest"
    exclude: tuple[Any, ...] = ()
    """`Dataset`s and `SuiteRef`s whose prompts may not be in this source; such rows are dropped and counted."""


# --- recipes ----------------------------------------------------------------------------------------------------------
class Window(Strict):
    """Train on the selected rows of the last `window` iterations."""

    window: Annotated[int, Field(ge=1)]


class LoopPolicy(Strict):
    """How often the steps run, from which model each turn starts, and which iterations' rows train."""

    iterations: Annotated[int, Field(ge=1)] = 1
    start_from: Literal["student", "previous"] = "student"
    data: Literal["new", "accumulate"] | Window = "new"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows that a step reads: a data source or an earlier step's `as` name, of this or earlier iterations.

    `share` is set in mixes only: the share of that source's rows that is taken (1.0 = all).
    """

    name: str
    when: Literal["same", "previous", "all"] = "same"
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a recipe. `blocks` holds one validated instance per iteration (`by_iteration` resolved).

    `from_` is None where the step reads the rows that flow down: `pool` for the first step, else the last step's.
    """

    verb: Verb
    block_name: str
    blocks: tuple[Any, ...]
    as_: str | None = None
    from_: tuple[Source, ...] | None = None
    file: str = ""
    line: int | None = None

    @property
    def name(self) -> str:
        """How `--set` and reports address the step: its `as` name, else its block's name."""
        return self.as_ or self.block_name

    def block(self, iteration: int) -> Any:
        """The block of an iteration (from 1 on)."""
        return self.blocks[iteration - 1]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data strategy: ordered steps and the loop policy. `base` differs from `name` for a variation only.

    `train_overrides`: step name -> options in which the recipe departs from the experiment's `train:`.
    """

    name: str
    base: str
    loop: LoopPolicy
    steps: tuple[Step, ...]
    path: str | None = None
    train_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variation: Mapping[str, Any] = field(default_factory=dict)


# --- suites and the experiment ----------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class SuiteRef:
    """A suite: its validated block, and the judge block that grades it (None: needs none)."""

    name: str
    block_name: str
    block: Any
    judge: Any | None = None
    path: str | None = None
    written: Mapping[str, Any] = field(default_factory=dict)
    """Options that are file paths, as the file said them, for records."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Training options of the whole experiment, already merged into every finetune block that has such a field."""

    options: Mapping[str, Any] = field(default_factory=dict)


class Budget(Strict):
    """Equalises arms: every cell trains on this many tokens, all its trainings together (see `config.budget`)."""

    train_tokens: Count | None = None


class Limits(Strict):
    """Stops before more is spent: US dollars of served models, hours that runs of the plan took."""

    usd: Annotated[float, Field(gt=0)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None


class Gate(Strict):
    """What `gate` compares with, and the loss per metric that is still acceptable (in the metric's unit)."""

    baseline: str | None = None
    margin: Annotated[Mapping[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole experiment, resolved and checked. `resolved` is the same as plain JSON, without any secret."""

    name: str
    path: str | None
    models: Mapping[str, Model]
    data: Mapping[str, Dataset]
    recipes: tuple[Recipe, ...]
    suites: tuple[SuiteRef, ...]
    students: tuple[str, ...] = ("student",)
    seeds: tuple[int, ...] = (0,)
    data_seeds: tuple[int, ...] = (0,)
    baseline: str | None = None
    train: Train = field(default_factory=Train)
    budget: Budget | None = None
    limits: Limits | None = None
    gate: Gate | None = None
    leaks: Leaks = field(default_factory=Leaks)
    sentinels: Sentinels = field(default_factory=Sentinels)
    resolved: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, name: str) -> Recipe:
        """The recipe of a name.

        Raises:
            KeyError: there is none.
        """
        return _by_name(self.recipes, name)

    def suite(self, name: str) -> SuiteRef:
        """The suite of a name.

        Raises:
            KeyError: there is none.
        """
        return _by_name(self.suites, name)


_Named = TypeVar("_Named", Recipe, SuiteRef)


def _by_name(things: Iterable[_Named], name: str) -> _Named:
    for thing in things:
        if thing.name == name:
            return thing
    raise KeyError(name)


__all__ = [
    "NAME", "VERBS", "BlockLike", "Budget", "Dataset", "Experiment", "Gate", "Limits", "LoopPolicy", "Model", "Recipe",
    "Registry", "Scratch", "Share", "Source", "Step", "Strict", "SuiteRef", "Train", "Verb", "Window", "Withhold",
]  # fmt: skip
