"""Binds roles to models: those that the experiment names, and those that a recipe trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.config.model import Experiment, Model
from harness.config.models import UNBOUND
from harness.engines.auto import choose
from harness.engines.base import EngineName, ModelSpec
from harness.engines.open import check as check_engine
from harness.engines.served.offer import tokenizer_identity
from harness.errors import UserError
from harness.loop.stage import Binding, Input, Stage
from harness.records.hashing import sha256
from harness.records.templates import adapter_base
from harness.store.atomic import write_json
from harness.store.home import Home

SERVED = ("url", "model", "api_key_env", "prices", "concurrency", "deadline", "timeout", "length_field", "body")
"""Settings of a served model that its engine needs."""
SERVED_HERE = ("concurrency", "deadline", "timeout")
"""Those of one that loopbench serves itself."""
BUILDER = 1
"""Raised when the same scratch options would build another model."""


class Roles:
    """The models of an experiment by role. Each is looked up once; a folder's revision is the hash of its files."""

    def __init__(self, experiment: Experiment, source: Callable[[str], Stage], add: Callable[[Stage], Stage]) -> None:
        self._experiment, self._source, self._add = experiment, source, add
        self._bound: dict[str, Binding] = {}

    def fixed(self, role: str) -> Binding:
        """The binding of a role that `models:` names.

        Raises:
            UserError: the role is not bound.
        """
        if role not in self._bound:
            model = self._experiment.models.get(role) or UNBOUND.get(role)
            if model is None:
                raise UserError(f"no model is bound to the role {role!r}: add `{role}: ...` under `models:`")
            self._bound[role] = _counted(self._bind(role, model), self._experiment)
        return self._bound[role]

    def trained(self, stage: Stage, start: Binding, recipe: str) -> Binding:
        """The model that a finetune stage gives; it runs as the model it started from does."""
        engine = start.spec.engine if start.spec.holds else "transformers"
        spec = replace(start.spec, name=f"{recipe}:{stage.label}", path=None, revision=stage.key, engine=engine)
        return Binding(spec=spec, stage=stage.key)

    def _bind(self, role: str, model: Model) -> Binding:
        if model.scratch is not None:
            options = model.scratch.model_dump()
            source = self._source(options.pop("tokenizer_from"))
            inputs = (Input(key=source.key, kind="data"),)
            stage = self._add(
                Stage(
                    action="scratch",
                    label=f"scratch {role}",
                    inputs=inputs,
                    data=options,
                    fingerprint={"scratch": options | {"builder": BUILDER}},
                )
            )
            return Binding(spec=_spec(model, stage.key), stage=stage.key)
        return binding_of(model)


def _counted(binding: Binding, experiment: Experiment) -> Binding:
    """The binding with what a served model must know of its experiment: whose money it spends, and up to where."""
    if not binding.spec.remote:
        return binding
    usd = experiment.limits.usd if experiment.limits is not None else None
    options = dict(binding.spec.options) | {"experiment": experiment.name, "usd_limit": usd}
    return replace(binding, spec=replace(binding.spec, options=options))


def binding_of(model: Model) -> Binding:
    """The binding of a model that exists: a folder or a server."""
    spec = _spec(model, _revision(model))
    if spec.engine != "oracle":
        check_engine(spec)
    return Binding(spec=spec)


def _spec(model: Model, revision: str) -> ModelSpec:
    folder, why = model.path or model.tokenizer, ""
    path = Path(folder) if folder else None
    engine: EngineName
    options = dict(model.options)
    if model.engine == "auto":
        choice = choose(path, model.device)
        engine, why, options = choice.engine, choice.why, choice.options(options)
    else:
        engine = model.engine
    ours = set(SERVED if model.url else SERVED_HERE) if engine == "openai" else set()
    served = {name: value for name, value in model.model_dump(include=ours).items() if value is not None}
    return ModelSpec(
        name=model.written or model.name,
        engine=engine,
        path=path,
        revision=revision,
        dtype=model.dtype,
        device=model.device,
        prompt_pack=model.prompts,
        options=options | served,
        why=why,
    )


def _revision(model: Model) -> str:
    if model.url is not None:
        where = model.revision or model.url.rstrip("/")
        parts = {"served": where, "model": model.model, "body": model.body, "length": model.length_field}
        if model.tokenizer is not None:  # then conversations are rendered and tokenised here
            parts["tokenizer"] = tokenizer_identity(Path(model.tokenizer))
        return sha256(parts)
    if model.engine == "hashed":
        from harness.engines.hashed import REVISION

        return sha256(REVISION)
    if model.path is None:
        return sha256([model.url, model.model, model.judge])
    return revision(Path(model.path))


def revision(folder: Path) -> str:
    """The content hash of a model folder, remembered by file sizes and times: hashing 16 GB takes a while."""
    from harness.engines.revision import revision_of

    folders = [folder, adapter_base(folder)] if (folder / "adapter_config.json").is_file() else [folder]
    files = sorted(f for place in folders for f in place.iterdir() if f.is_file())
    stamp = sha256([[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files])
    note = Home.find().path / "revisions.json"
    try:
        known: dict[str, str] = json.loads(note.read_text())
    except (OSError, ValueError):
        known = {}
    place = f"{folder}:{stamp}"
    if place not in known:
        known[place] = revision_of(folder)
        if note.parent.exists():
            write_json(note, known)
    return known[place]
