"""Opens a model by its spec. Importing this module loads no model library."""

from __future__ import annotations

from typing import Protocol, cast

from harness.engines.base import Capability, Embeds, Engine, Generates, ModelSpec, Scores
from harness.engines.families import family_of
from harness.errors import UserError
from harness.records.templates import own_template
from harness.store.home import Home

BUILT_IN = ("transformers", "openai", "hashed")
CAPABILITIES: dict[str, frozenset[Capability]] = {
    "transformers": frozenset({"generate", "continue", "logprobs", "embed", "weights"}),
    "openai": frozenset({"generate"}),
    "hashed": frozenset({"embed"}),
}


class OpenEngine(Engine, Generates, Scores, Embeds, Protocol):
    """An engine that can do all that this version knows to ask."""


def open_engine(spec: ModelSpec, *, threads: int = 1, home: Home | None = None) -> OpenEngine:
    """Loads a model and returns its engine; `close` it when done.

    Args:
        spec: what to open. A folder with a LoRA adapter is merged into its base on loading.
        threads: CPU threads of the arithmetic (PyTorch keeps this number for the whole process).
        home: where replies of served models are kept and money is counted (by default where results are).

    Raises:
        UserError: the engine is not in this version, or the model cannot be opened; the message says why.
    """
    check(spec)
    if spec.engine == "openai":
        from harness.engines.openai import OpenAIEngine

        return OpenAIEngine(spec, home)
    if spec.engine == "hashed":
        from harness.engines.hashed import HashedEngine

        return cast("OpenEngine", HashedEngine(spec))  # it only embeds, and a plan asks it nothing else
    if (family := family_of(spec.path)) != "causal":
        from harness.engines.encoder import EncoderEngine, RewardEngine

        return cast("OpenEngine", (RewardEngine if family == "reward" else EncoderEngine)(spec, threads))
    from harness.engines.transformers import TransformersEngine

    return TransformersEngine(spec, threads)


def check(spec: ModelSpec) -> None:
    """Refuses, without loading anything, what `open_engine` would refuse, but for a key that is not there yet.

    Raises:
        UserError: no such engine in this version, no model folder there, or a served model without URL or name.
    """
    if spec.engine == "oracle":
        raise UserError(
            f"the model {spec.name} is the oracle, which is no language model: it knows the truth of the pocket tasks "
            f"and can only judge. Bind it to the role of a judge, and another model to this one."
        )
    if spec.engine == "openai":
        from harness.engines.served.settings import Served

        Served.of(spec)
        return
    if spec.engine == "hashed":
        return
    if spec.engine not in BUILT_IN:
        raise UserError(
            f"the model {spec.name} asks for the engine {spec.engine!r}, which is not built into this version; built "
            f"in: {', '.join(BUILT_IN)}. Write engine: {BUILT_IN[0]} and the folder of the weights."
        )
    from harness.engines.loading import check_folder

    check_folder(spec)


def ready(spec: ModelSpec) -> None:
    """Refuses a served model whose key is not in the environment: better now than after hours of training.

    Raises:
        UserError: names the variable.
    """
    if spec.engine == "openai":
        from harness.engines.served.settings import Served

        Served.of(spec).key()


def capabilities(spec: ModelSpec) -> frozenset[Capability]:
    """What the model's engine can be asked, told without loading it.

    Empty for the oracle and for engines that are not built into this version. A model folder without a chat template
    can write no user's turn (`turns`); one that a training gives is not there yet, and brings one.
    """
    if spec.engine == "transformers" and (family := family_of(spec.path)) != "causal":
        return frozenset({"reward"}) if family == "reward" else frozenset({"embed"})
    offered = CAPABILITIES.get(spec.engine, frozenset())
    if "continue" in offered and (spec.path is None or own_template(spec.path) is not None):
        return offered | {"turns"}
    return offered
