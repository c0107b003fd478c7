"""Refuses, before anything runs, a block whose model cannot do what it asks, and a served model without its key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.blocks.base import Block
from harness.engines.base import Capability, ModelSpec
from harness.engines.families import family_of
from harness.engines.open import capabilities, ready
from harness.errors import UserError
from harness.loop.stage import Binding, Stage

_WHAT: Mapping[Capability, str] = {
    "generate": "to answer conversations",
    "continue": "for its tokenizer, to continue text by token ids",
    "turns": "to write a user's turn",
    "logprobs": "for the log-probabilities of given texts",
    "embed": "for embeddings",
    "reward": "for rewards",
    "weights": "for its weights, to train from",
}
_FAMILIES = {
    "causal": "a language model (a reward model is a folder with a sequence classifier of one logit)",
    "reward": "a reward model, which gives rewards only",
    "encoder": "a text encoder, which embeds only",
}
_ANSWERS: frozenset[Capability] = frozenset({"generate"})


def check_capable(block: Block, models: Mapping[str, tuple[str, Binding]], where: str) -> None:
    """Checks every model of a block. `models`: option name to the role it names and the model bound to that.

    Raises:
        UserError: names the block, the role, and what its model cannot do.
    """
    asked = block.asks()
    for option, (role, binding) in models.items():
        lacking = sorted(asked.get(option, _ANSWERS) - capabilities(binding.spec))
        if lacking:
            spec = binding.spec
            other = "another model folder" if spec.engine == "transformers" else "a model folder"
            raise UserError(
                f"{where}: {block.name} asks the model bound to {role!r} {_WHAT[lacking[0]]}, and {spec.name} is "
                f"{_kind(spec, lacking[0])}: bind {other} to {role!r}, or take {block.name} out"
            )


def _kind(spec: ModelSpec, lacking: Capability) -> str:
    if spec.engine == "openai":
        return "a served model, which only answers conversations"
    if spec.engine != "transformers":
        return "a program"
    if lacking == "turns":
        return "a model without a chat template (a base model, it seems), which knows no user's turn"
    return _FAMILIES[family_of(spec.path)]


def check_keys(stages: Iterable[Stage]) -> None:
    """Checks that the key of every served model and other service that these stages ask is there, before any runs.

    Raises:
        UserError: names the variable that is not set.
    """
    for stage in stages:
        for binding in stage.models.values():
            ready(binding.spec)
        if stage.block is not None:
            stage.block.check_ready()
