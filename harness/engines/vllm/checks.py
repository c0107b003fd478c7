"""What is refused before a vLLM model is opened: when a plan is made, and before a run begins. Loads nothing."""

from __future__ import annotations

from harness.engines.adapters import Adapter, adapter_of, is_adapter
from harness.engines.base import ModelSpec
from harness.engines.families import family_of
from harness.engines.vllm.hosts import environments
from harness.engines.vllm.installed import HOW, build
from harness.engines.vllm.options import VllmOptions, limit_of
from harness.errors import UserError


def check(spec: ModelSpec) -> None:
    """Refuses what no installation of vLLM would do for this model.

    Raises:
        UserError: an unknown option, an encoder or reward model, an adapter that does not fit, too long a context.
    """
    options = VllmOptions.of(spec)
    if (family := family_of(spec.path)) != "causal":
        what = "a reward model" if family == "reward" else "a text encoder"
        raise UserError(
            f"the model {spec.name} is {what}, and the vllm engine writes and scores texts only: write "
            "`engine: transformers` for it."
        )
    limit_of(spec, options, servable(spec))


def ready(spec: ModelSpec) -> None:
    """Refuses what this machine cannot do, before any stage that needs it runs.

    Raises:
        UserError: vLLM is not installed, or was built for another device than the model asks for.
    """
    made = build()
    if made is None:
        raise UserError(f"the model {spec.name} asks for `engine: vllm`, and vLLM is not installed here: {HOW}.")
    environments(spec, VllmOptions.of(spec), made, threads=1)


def servable(spec: ModelSpec) -> Adapter | None:
    """The adapter in the model's folder; None for a whole model.

    Raises:
        UserError: an adapter that does not fit its base, or that vLLM cannot serve without merging.
    """
    if spec.path is None or not is_adapter(spec.path):
        return None
    adapter = adapter_of(spec.path)
    if not adapter.plain:
        raise UserError(
            f"the adapter in {spec.path} is more than low-rank updates of inner layers (DoRA, biases, embeddings or "
            "whole layers), which vLLM does not serve: write `engine: transformers`, which merges it into its base."
        )
    return adapter
