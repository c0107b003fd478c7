"""A resolved experiment as plain JSON values, for the record: everything that was in force, and no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.config.model import Dataset, Experiment, Model, Recipe, Source, Step, SuiteRef

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def plain(experiment: Experiment) -> dict[str, Any]:
    """The whole experiment as JSON values, in the shape of an experiment file with everything inline.

    Models and files appear as the configuration wrote them, so a record holds no folder of somebody's machine;
    credentials inside URLs are cut out, and `api_key_env` is only ever the name of a variable.
    """
    whole: dict[str, Any] = {
        "experiment": experiment.name,
        "models": {role: _model(model) for role, model in experiment.models.items()},
        "data": {name: _dataset(dataset) for name, dataset in experiment.data.items()},
        "recipes": [_recipe(recipe) for recipe in experiment.recipes],
        "suites": [_suite(suite) for suite in experiment.suites],
        "students": list(experiment.students),
        "seeds": list(experiment.seeds),
        "data_seeds": list(experiment.data_seeds),
        "baseline": experiment.baseline,
        "train": dict(experiment.train.options),
        "leaks": experiment.leaks.model_dump(mode="json"),
        "sentinels": experiment.sentinels.model_dump(mode="json"),
    }
    if experiment.claims:
        whole["claims"] = [claim.model_dump(mode="json", exclude_none=True) for claim in experiment.claims]
    for key in ("budget", "limits", "gate"):
        part = getattr(experiment, key)
        if part is not None:
            whole[key] = part.model_dump(mode="json", exclude_none=True)
    return {key: _clean(value) for key, value in whole.items() if value is not None}


def as_yaml(resolved: Mapping[str, Any]) -> str:
    """The plain form as YAML text."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.width = 4096
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    out = StringIO()
    yaml.dump(dict(resolved), out)
    return out.getvalue()


def _model(model: Model) -> dict[str, Any]:
    unnamed = {"name", "written", "path", "prompts_written", "tokenizer_written"}
    values = model.model_dump(mode="json", exclude_defaults=True, exclude=unnamed)
    if model.prompts_written:
        values["prompts"] = model.prompts_written
    if model.tokenizer_written:
        values["tokenizer"] = model.tokenizer_written
    return ({"path": model.written} if model.path is not None else {}) | values | {"engine": model.engine}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    values = dataset.model_dump(mode="json", exclude_defaults=True, exclude={"name", "written", "path", "exclude"})
    place = {"path": dataset.written} if dataset.path is not None else {}
    result: dict[str, Any] = {"dataset": dataset.name, "kind": dataset.kind} | place | values
    if dataset.exclude:
        datasets = [one.name for one in dataset.exclude if isinstance(one, Dataset)]
        suites = [one.name for one in dataset.exclude if isinstance(one, SuiteRef)]
        result["exclude"] = {key: names for key, names in (("datasets", datasets), ("suites", suites)) if names}
    return result


def _recipe(recipe: Recipe) -> dict[str, Any]:
    result: dict[str, Any] = {"recipe": recipe.name, "loop": recipe.loop.model_dump(mode="json")}
    if recipe.pool != "pool":
        result["pool"] = recipe.pool
    if recipe.variation:
        result |= {"base": recipe.base, "variation": dict(recipe.variation)}
    return result | {"steps": [_step(step) for step in recipe.steps]}


def _step(step: Step) -> dict[str, Any]:
    result: dict[str, Any] = {step.verb: step.block_name}
    if step.as_ is not None:
        result["as"] = step.as_
    if step.from_ is not None:
        result["from"] = _sources(step.from_)
    if step.only is not None:
        result["only"] = step.only
    each = [block.model_dump(mode="json") for block in step.blocks]
    return result | {
        key: value if all(options[key] == value for options in each) else {"by_iteration": [o[key] for o in each]}
        for key, value in each[0].items()
    }


def _sources(sources: tuple[Source, ...]) -> Any:
    names = {s.name if s.when == "same" else f"{s.name}@{s.when}": s.share for s in sources}
    return list(names) if all(part is None for part in names.values()) else names


def _suite(suite: SuiteRef) -> dict[str, Any]:
    result: dict[str, Any] = {"name": suite.name, "suite": suite.block_name}
    if suite.judge is not None:
        result["judge"] = {"judge": suite.judge.name} | suite.judge.model_dump(mode="json")
    options: dict[str, Any] = suite.block.model_dump(mode="json")
    return result | options | dict(suite.written)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _CREDENTIALS.sub("", value)
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value
