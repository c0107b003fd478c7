"""lm-eval's task objects: built from its own YAML, on local files where they are given. Heavy: for workers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError
from harness.evaluate import _lm_data
from harness.evaluate._lm_quiet import quiet
from harness.evaluate._lm_spec import Leaf, Spec

Row = dict[str, Any]
_REFUSED = {
    "class": "is a Python class of its own",
    "unsafe_code": "runs code that the model writes",
    "doc_to_image": "shows images",
    "doc_to_audio": "plays audio",
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a task is built from. `splits` or `test` (with `train`) are local rows; without, the task fetches its own.

    `revision` is the commit of the dataset on the hub.
    """

    leaf: Leaf
    config: Mapping[str, Any]
    fewshot: int | None
    splits: Mapping[str, Sequence[Row]] | None = None
    test: Sequence[Row] | None = None
    train: Sequence[Row] | None = None
    revision: str | None = None


def build(source: Source) -> Any:
    """lm-eval's task object.

    Raises:
        UserError: the task needs what this adapter does not do, a package that is not there, or data that are not.
    """
    spec = {**source.leaf.spec(), **source.config}
    # Before lm-eval reads the file: resolving its `!function` references already runs the task's Python.
    if refused := next((why for key, why in _REFUSED.items() if spec.get(key)), None):
        raise UserError(f"lm-eval task {source.leaf.name} {refused}, which the lm_eval suite does not do")
    with quiet():
        config = _config(source)
        shots = source.fewshot if source.fewshot is not None else config.get("num_fewshot") or 0
        config["num_fewshot"] = shots
        if source.splits is not None:
            _lm_data.use_folder(config, source.splits, shots)
        elif source.test is not None:
            _lm_data.use_rows(config, source.test, source.train, shots)
        elif source.revision is not None:
            config["dataset_kwargs"] = {**(config.get("dataset_kwargs") or {}), "revision": source.revision}
        return _constructed(config, source)


def _config(source: Source) -> Spec:
    """The task's mapping with its Python functions, as lm-eval's own loader gives it."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: Spec = load_yaml(source.leaf.file)
    except ImportError as error:
        raise UserError(
            f"lm-eval task {source.leaf.name} needs a Python package that is not installed ({error}): "
            f"`pip install {error.name}`, or lm-eval with this task's extra (`lm-eval[ifeval]`, say)"
        ) from error
    config |= {**source.leaf.overrides, **source.config, "task": source.leaf.name}
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    return config


def _constructed(config: Spec, source: Source) -> Any:
    from lm_eval.api.task import ConfigurableTask

    local = source.splits is not None or source.test is not None
    path, part = config.get("dataset_path"), config.get("dataset_name")
    try:
        return ConfigurableTask(config=config)
    except (OSError, ValueError) as error:  # what the datasets library raises when it cannot reach the hub
        if local:
            raise
        raise UserError(
            f"the data of lm-eval task {source.leaf.name} ({path}{f', {part}' if part else ''}) are neither in this "
            f"machine's Hugging Face cache nor can they be fetched: {str(error).splitlines()[0]}. Where there is a "
            f"network, run `hf download {path} --repo-type dataset --local-dir FOLDER`, bring FOLDER here, and write "
            "`folder: FOLDER` into the suite; rows of your own will do as well (`test_path`, `train_path`)"
        ) from error
