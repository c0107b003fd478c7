"""Refuses, before anything runs, a block whose model cannot do what it asks, and a served model without its key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.blocks.base import Block
from harness.engines.base import Capability, ModelSpec
from harness.engines.families import family_of
from harness.engines.open import capabilities, ready
from harness.engines.served.capable import lacking as lacks
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
_WITH_IDS: frozenset[Capability] = frozenset({"continue", "turns", "logprobs"})
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
            other = "another model folder" if spec.holds else "a model folder"
            ids = spec.remote and spec.path is None and lacking[0] in _WITH_IDS
            more = " (or a server such as `vllm serve`, with `tokenizer: FOLDER` beside its `url:`)" if ids else ""
            raise UserError(
                f"{where}: {block.name} asks the model bound to {role!r} {_WHAT[lacking[0]]}, and {spec.name} is "
                f"{_kind(spec, lacking[0])}: bind {other} to {role!r}{more}, or take {block.name} out"
            )


def _kind(spec: ModelSpec, lacking: Capability) -> str:
    if spec.remote:
        return _server(spec, lacking)
    if spec.engine in ("vllm", "openai") and lacking in ("embed", "reward"):
        return "run by vLLM, which writes and scores texts only (write `engine: transformers` for it)"
    if spec.engine not in ("transformers", "vllm", "openai"):
        return "a program"
    if lacking == "turns":
        return "a model without a chat template (a base model, it seems), which knows no user's turn"
    return _FAMILIES[family_of(spec.path)]


def _server(spec: ModelSpec, lacking: Capability) -> str:
    if spec.path is None:
        return "a served model, which only answers conversations"
    if lacking == "turns":
        return "a served model whose tokenizer's folder has no chat template, so it knows no user's turn"
    said = lacks(spec) if lacking == "logprobs" else ""
    return f"a served model that cannot{f' ({said})' if said else ''}"


def check_keys(stages: Iterable[Stage]) -> None:
    """Checks that the key of every served model and other service that these stages ask is there, before any runs.

    Raises:
        UserError: names the variable that is not set, or what a server was found to lack.
    """
    for stage in stages:
        for binding in stage.models.values():
            ready(binding.spec)
        if stage.block is not None:
            stage.block.check_ready()
            served = {
                o: (role, stage.models[role]) for o, role in stage.roles.items() if stage.models[role].spec.remote
            }
            check_capable(stage.block, served, stage.label)
