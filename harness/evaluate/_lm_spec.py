"""Reads lm-eval's task and group files without importing lm_eval, so that planning stays instant.

What a suite names may be a task, a group of tasks or a tag: it becomes a tree whose leaves are tasks. `!function`
references stay text here; the worker lets lm-eval resolve them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.evaluate import _lm_names
from harness.records.datafile import locate
from harness.records.hashing import file_sha256, sha256

Spec = dict[str, Any]
_GROUP_KEYS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag", "include"}


class Function(str):
    """The text of a `!function` reference."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `!function x` is the text `x`."""


_Loader.add_constructor("!function", lambda loader, node: Function(node.value))


@dataclass(frozen=True)
class Leaf:
    """One task: its name, its file, and what the groups around it set otherwise."""

    name: str
    file: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def spec(self) -> Spec:
        """The task's mapping, all includes merged."""
        return {**read(self.file), **self.overrides, "task": self.name}

    def version(self) -> str:
        """The task's own version, `none` where its file states none."""
        return str((self.spec().get("metadata") or {}).get("version", "none"))


@dataclass(frozen=True)
class Group:
    """Tasks and groups under one name. `weights`: metric to whether its mean weighs tasks by size (None: all do)."""

    name: str
    members: tuple[Leaf | Group, ...]
    weights: Mapping[str, bool] | None = None
    version: str = "none"

    def leaves(self) -> list[Leaf]:
        """All tasks below, each once."""
        found = {leaf.name: leaf for m in self.members for leaf in ([m] if isinstance(m, Leaf) else m.leaves())}
        return list(found.values())

    def groups(self) -> Iterator[Group]:
        """This group and those below it."""
        yield self
        for member in self.members:
            if isinstance(member, Group):
                yield from member.groups()


@lru_cache(maxsize=64)
def tree(tasks: tuple[str, ...]) -> Group:
    """What a suite names, as one group; its name is the only task's, or all of them joined.

    Raises:
        UserError: a name that lm-eval does not know (the message holds the nearest), a file that is not there.
    """
    found = [_named(task, None, {}) for task in tasks]
    if len(found) == 1 and isinstance(found[0], Group):
        return found[0]
    return Group("+".join(member.name for member in found), tuple(found))


def read(path: Path, seen: tuple[Path, ...] = ()) -> Spec:
    """A file's mapping with its `include`s merged, as lm-eval merges them.

    Raises:
        UserError: not readable, not YAML, no mapping, or an include that leads back to itself.
    """
    path = path.resolve()
    if path in seen:
        raise UserError(f"{path} includes itself")
    data = dict(_parsed(path, path.stat().st_mtime_ns if path.is_file() else 0))
    merged: Spec = {}
    for name in _listed(data.pop("include", ())):
        merged |= read(path.parent / name, (*seen, path))
    return merged | data


def identity(leaf: Leaf) -> str:
    """Hash of the task's files, its includes and the Python beside them, with lm-eval's version and the task's own.

    A new version of the package gives other scores now and then, so it is another suite even where files are alike.
    """
    files = sorted({*_includes(leaf.file.resolve()), *leaf.file.parent.glob("*.py")})
    sums = [_sum(file, file.stat().st_mtime_ns) for file in files]
    overrides = {name: _plain(value) for name, value in leaf.overrides.items()}
    return sha256([version("lm-eval"), leaf.name, leaf.version(), sums, overrides])


def versions(group: Group) -> str:
    """`gsm8k version 3.0`, or for a group its own version and the number of its tasks."""
    leaves = group.leaves()
    if len(leaves) == 1:
        return f"{leaves[0].name} version {leaves[0].version()}"
    own = f"{group.name} version {group.version}" if group.version != "none" else group.name
    tasks = ", ".join(sorted({leaf.version() for leaf in leaves}))
    return f"{own}, {len(leaves)} tasks of version {tasks}"


def _named(name: str, beside: Path | None, overrides: Mapping[str, Any]) -> Leaf | Group:
    if name.endswith((".yaml", ".yml")):
        file = locate(name, "task")
        return _from_file(file, overrides, file.parent)
    entry = _lm_names.find(name, beside)
    if entry.kind == _lm_names.TAG:
        return Group(name, tuple(_named(member, beside, overrides) for member in entry.members))
    if entry.file is None:
        raise UserError(f"lm-eval's {name} has no file, so it cannot be asked here")
    return _from_file(entry.file, overrides, beside)


def _from_file(file: Path, overrides: Mapping[str, Any], beside: Path | None) -> Leaf | Group:
    data = read(file)
    if "group" not in data and isinstance(data.get("task"), str):
        return Leaf(str(overrides.get("task", data["task"])), file, overrides)
    if "group" not in data or not isinstance(data.get("task"), list):
        raise UserError(f"{file} is no task of lm-eval: it names neither a `task` nor a `group` with a list of tasks")
    return _group(str(data["group"]), data, overrides, file, beside)


def _group(name: str, data: Spec, overrides: Mapping[str, Any], file: Path, beside: Path | None) -> Group:
    common = {**{key: value for key, value in data.items() if key not in _GROUP_KEYS}, **overrides}
    members = [_member(item, name, common, file, beside) for item in data["task"]]
    listed = data.get("aggregate_metric_list")
    listed = [listed] if isinstance(listed, dict) else listed
    weights = {str(m["metric"]): bool(m.get("weight_by_size", True)) for m in listed} if listed else None
    return Group(name, tuple(members), weights, str((data.get("metadata") or {}).get("version", "none")))


def _member(item: Any, group: str, common: Mapping[str, Any], file: Path, beside: Path | None) -> Leaf | Group:
    if isinstance(item, str):
        return _named(item, beside, common)
    inner = {key: value for key, value in item.items() if key not in ("group", "task")}
    if any(isinstance(value, Function) for value in inner.values()):
        raise UserError(f"{file}: group {group} sets Python functions for its tasks, which the lm_eval suite cannot do")
    if "group" in item and isinstance(item.get("task"), list):
        return _group(f"{group}::{item['group']}", dict(item), common, file, beside)
    name = item.get("group") or item.get("task")
    if not isinstance(name, str) or "dataset_path" in inner:
        raise UserError(f"{file}: group {group} defines a task inside itself, which the lm_eval suite cannot do")
    return _named(name, beside, {**common, **inner})


@lru_cache(maxsize=512)
def _parsed(path: Path, changed: int) -> Spec:  # the time: a changed file is read again
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  a subclass of SafeLoader
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"lm-eval task {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"lm-eval task {path}: a mapping is expected")
    return data


@lru_cache(maxsize=512)
def _sum(file: Path, changed: int) -> str:
    return file_sha256(file)


def _listed(value: Any) -> Sequence[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _includes(path: Path) -> Iterator[Path]:
    yield path
    for name in _listed(_parsed(path, path.stat().st_mtime_ns).get("include", ())):
        yield from _includes((path.parent / name).resolve())
