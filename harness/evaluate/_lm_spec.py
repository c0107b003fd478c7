"""Reads an lm-eval task's YAML without importing lm_eval, so that planning stays instant.

A task is named as lm-eval names it (`gsm8k`, `arc_challenge`), or by the path of a YAML file of one's own. `!function`
references stay text here; the worker lets lm-eval resolve them.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.records.datafile import locate
from harness.records.hashing import file_sha256, sha256

Spec = dict[str, Any]
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    "generate_until": ("exact_match",),
    "loglikelihood": ("acc",),
    "multiple_choice": ("acc", "acc_norm"),
}
"""lm-eval's metrics for a task that lists none; those that are no mean over items (perplexities) are left out."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `!function x` is the text `x`."""


_Loader.add_constructor("!function", lambda loader, node: str(node.value))


def task_file(task: str) -> Path:
    """The YAML file of a task.

    Raises:
        UserError: lm-eval has no task of this name, or there is no such file.
    """
    if task.endswith((".yaml", ".yml")):
        return locate(task, "task")
    root = _tasks_root()
    first = [root / task / f"{task}.yaml", root / task.partition("_")[0] / f"{task}.yaml"]
    found = next((path for path in first if path.is_file() and _names(path, task)), None) or _search(root, task)
    if found is None:
        raise UserError(
            f"lm-eval {version('lm-eval')} has no single task named {task!r}: name one of its tasks (not a group or a "
            "tag), or give the path of a task YAML"
        )
    return found


def read(path: Path, seen: tuple[Path, ...] = ()) -> Spec:
    """A task's mapping with its `include`s merged, as lm-eval merges them.

    Raises:
        UserError: not readable, not YAML, no mapping, or an include that leads back to itself.
    """
    path = path.resolve()
    if path in seen:
        raise UserError(f"{path} includes itself")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  a subclass of SafeLoader
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"lm-eval task {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"lm-eval task {path}: a mapping is expected")
    merged: Spec = {}
    for name in _listed(data.pop("include", ())):
        merged |= read(path.parent / name, (*seen, path))
    return merged | data


def identity(path: Path) -> str:
    """Hash of the task file, its includes and the Python files beside it, with lm-eval's version.

    Files inside the installed package are covered by its version.
    """
    if path.is_relative_to(_tasks_root()):
        return sha256([version("lm-eval"), str(path.relative_to(_tasks_root()))])
    files = sorted({*_includes(path), *path.parent.glob("*.py")})
    return sha256([version("lm-eval"), [file_sha256(file) for file in files]])


def metric_names(spec: Spec) -> dict[str, tuple[str, str]]:
    """Our name of each metric to lm-eval's (filter, metric).

    `strict-match` where the task has one metric and named filters, `acc` where it has no filters, else
    `exact_match-strict-match`. Metrics whose aggregate is no mean over items have no per-item value and are left out.
    """
    filters = [str(entry["name"]) for entry in spec.get("filter_list") or ()] or ["none"]
    metrics = [str(m["metric"]) for m in spec.get("metric_list") or () if m.get("aggregation", "mean") == "mean"]
    metrics = metrics or list(DEFAULT_METRICS.get(str(spec.get("output_type")), ()))
    return {_name(metric, name, len(metrics)): (name, metric) for name in filters for metric in metrics}


def higher_is_better(spec: Spec, metric: str) -> bool:
    """What the task says about a metric of its list; lm-eval's default is yes."""
    listed = {str(m["metric"]): m.get("higher_is_better", True) for m in spec.get("metric_list") or ()}
    return bool(listed.get(metric, True))


def _name(metric: str, filter_name: str, metrics: int) -> str:
    if filter_name == "none":
        return metric
    return filter_name if metrics == 1 else f"{metric}-{filter_name}"


def _listed(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def _includes(path: Path) -> Iterator[Path]:
    yield path
    data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  a subclass of SafeLoader
    for name in _listed(data.get("include", ())):
        yield from _includes((path.parent / name).resolve())


@lru_cache(maxsize=1)
def _tasks_root() -> Path:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("lm-eval is not installed: `pip install lm-eval`")
    return Path(spec.submodule_search_locations[0]) / "tasks"


def _names(path: Path, task: str) -> bool:
    text = path.read_text(encoding="utf-8")
    return re.search(rf"^task:\s*[\"']?{re.escape(task)}[\"']?\s*$", text, re.MULTILINE) is not None


@lru_cache(maxsize=64)
def _search(root: Path, task: str) -> Path | None:
    """Looks through all tasks; file names that hold the name's first part come first, because most do."""
    files = sorted(root.rglob("*.yaml"), key=lambda p: (task.partition("_")[0] not in p.as_posix(), p))
    return next((path for path in files if _names(path, task)), None)
