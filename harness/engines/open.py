"""Opens a model by its spec. Importing this module loads no model library."""

from __future__ import annotations

from typing import Any, Protocol, cast

from harness.engines.adapters import adapter_of, is_adapter
from harness.engines.base import Capability, Embeds, Engine, Generates, ModelSpec, Scores
from harness.engines.families import family_of
from harness.errors import UserError
from harness.records.templates import adapter_base, own_template
from harness.store.home import Home

BUILT_IN = ("transformers", "vllm", "openai", "hashed")
CAPABILITIES: dict[str, frozenset[Capability]] = {
    "transformers": frozenset({"generate", "continue", "logprobs", "embed", "weights"}),
    "vllm": frozenset({"generate", "continue", "logprobs", "weights"}),
    "hashed": frozenset({"embed"}),
}


class OpenEngine(Engine, Generates, Scores, Embeds, Protocol):
    """An engine that can do all that this version knows to ask."""


def open_engine(spec: ModelSpec, *, threads: int = 1, home: Home | None = None, models: int = 1) -> OpenEngine:
    """Loads a model and returns its engine; `close` it when done.

    Args:
        spec: what to open. A folder with a LoRA adapter is merged into its base on loading; vLLM serves it unmerged.
        threads: CPU threads of the arithmetic (PyTorch keeps this number for the whole process).
        models: how many models share the device; vLLM takes that part of a GPU's memory.
        home: where replies of served models are kept and money is counted (by default where results are).

    Raises:
        UserError: the engine is not in this version, or the model cannot be opened; the message says why.
    """
    check(spec)
    if spec.engine == "openai":
        from harness.engines.openai import OpenAIEngine

        return cast("OpenEngine", OpenAIEngine(spec, home, threads, models))
    if spec.engine == "hashed":
        from harness.engines.hashed import HashedEngine

        return cast("OpenEngine", HashedEngine(spec))  # it only embeds, and a plan asks it nothing else
    if spec.engine == "vllm":
        from harness.engines.vllm.engine import VllmEngine

        return cast("OpenEngine", VllmEngine(spec, threads, models))
    if (family := family_of(spec.path)) != "causal":
        from harness.engines.encoder import EncoderEngine, RewardEngine

        return cast("OpenEngine", (RewardEngine if family == "reward" else EncoderEngine)(spec, threads))
    from harness.engines.transformers import TransformersEngine

    return TransformersEngine(spec, threads)


def check(spec: ModelSpec) -> None:
    """Refuses, without loading anything, what `open_engine` would refuse, but for a key that is not there yet.

    Raises:
        UserError: no such engine in this version, no model folder there, an adapter of another base, or a served model
            without URL or name.
    """
    if spec.engine == "oracle":
        raise UserError(
            f"the model {spec.name} is the oracle, which is no language model: it knows the truth of the pocket tasks "
            f"and can only judge. Bind it to the role of a judge, and another model to this one."
        )
    if spec.engine == "openai":
        from harness.engines.served.capable import check as check_served

        check_served(spec)
        return
    if spec.engine == "hashed":
        return
    if spec.engine not in BUILT_IN:
        raise UserError(
            f"the model {spec.name} asks for the engine {spec.engine!r}, which is not built into this version; built "
            f"in: {', '.join(BUILT_IN)}. Write engine: {BUILT_IN[0]} and the folder of the weights."
        )
    from harness.engines.loading import check_folder

    folder = check_folder(spec)
    if spec.engine == "vllm":
        from harness.engines.vllm.checks import check as check_vllm

        check_vllm(spec)
    elif is_adapter(folder):
        adapter_of(folder)


def ready(spec: ModelSpec) -> None:
    """Refuses what this machine lacks for a model, better now than after hours of training.

    That is memory for its weights, the key of a served model, and an installation of vLLM for its devices. A server
    with `tokenizer:` is asked what it offers, once per home, if it answers now.

    Raises:
        UserError: names the variable, says how to install, or what a server lacks.
    """
    if spec.engine == "transformers" and spec.path is not None:
        from harness.engines.fits import check_room

        check_room(adapter_base(spec.path) if is_adapter(spec.path) else spec.path, spec.dtype, spec.device)
    if spec.engine == "openai":
        from harness.engines.served.capable import ready as ready_served

        ready_served(spec)
    if spec.engine == "vllm":
        from harness.engines.vllm.checks import ready as ready_vllm

        ready_vllm(spec)


def settings(spec: ModelSpec) -> dict[str, Any]:
    """Options that decide what a model answers, as far as they are set: part of every key that it enters."""
    if spec.engine == "openai" and spec.holds:
        from harness.engines.served.local import options_of

        return options_of(spec).identity
    if spec.engine != "vllm":
        return {}
    from harness.engines.vllm.options import VllmOptions

    return VllmOptions.of(spec).identity


def capabilities(spec: ModelSpec) -> frozenset[Capability]:
    """What the model's engine can be asked, told without loading it.

    Empty for the oracle and for engines that are not built into this version. A model folder without a chat template
    can write no user's turn (`turns`); one that a training gives is not there yet, and brings one.
    """
    if spec.engine == "transformers" and (family := family_of(spec.path)) != "causal":
        return frozenset({"reward"}) if family == "reward" else frozenset({"embed"})
    if spec.engine == "openai":
        from harness.engines.served.capable import offered as offered_served

        return offered_served(spec)
    offered = CAPABILITIES.get(spec.engine, frozenset())
    if "continue" in offered and (spec.path is None or own_template(spec.path) is not None):
        return offered | {"turns"}
    return offered
