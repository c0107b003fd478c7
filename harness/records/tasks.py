"""Task taxonomies: which tasks an instruction can set, what each means, and which form its answers should have.

A taxonomy is a YAML file. `realign` is shipped (46 tasks in ten groups, after arXiv 2402.12219), `pocket` serves the
pocket world; any other name is the path of a file of one's own in the same form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import UserError
from harness.records.hashing import sha256

Check = Literal["code", "result", "plan", "numbers"]
BUNDLED = {
    "realign": Path(__file__).with_name("tasks.yaml"),
    "pocket": Path(__file__).parent.parent / "pocket" / "tasks.yaml",
}
SHIPPED = tuple(BUNDLED)
"""Names that are no paths, where a taxonomy is asked for."""
_KEYS = {"group", "means", "rewrite", "evidence", "checks", "format"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task. `rewrite`: its answers are brought into `format`; `evidence`: passages are looked up for it."""

    name: str
    group: str
    means: str
    format: str
    rewrite: bool = False
    evidence: bool = False
    checks: frozenset[Check] = frozenset()


@dataclass(frozen=True)
class Tasks:
    """A taxonomy. `default` is the task of rows that none fits."""

    version: str
    default: str
    by_name: Mapping[str, Task]

    @cached_property
    def digest(self) -> str:
        """Hash of the content, for keys."""
        tasks = [[t.name, t.group, t.means, t.format, t.rewrite, t.evidence, sorted(t.checks)] for t in self]
        return sha256([self.version, self.default, tasks])

    def __iter__(self) -> Iterator[Task]:
        return iter(self.by_name.values())

    def get(self, name: str | None) -> Task | None:
        """The task of this name; None where there is none."""
        return None if name is None else self.by_name.get(name)


def load_tasks(name: str) -> Tasks:
    """The taxonomy of this name or path.

    Raises:
        UserError: no such file, or one that is no taxonomy; all of its mistakes are named.
    """
    path = BUNDLED.get(name, Path(name))
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise UserError(
            f"the taxonomy {name!r} cannot be read ({error.strerror}): give the path of a YAML file, or one of "
            f"{', '.join(BUNDLED)}"
        ) from error
    return _load(path, changed)


def named_tasks(name: str) -> Tasks:
    """As `load_tasks`, for the validators of options.

    Raises:
        ValueError: what `load_tasks` finds wrong.
    """
    try:
        return load_tasks(name)
    except UserError as error:
        raise ValueError(str(error)) from error


@lru_cache(maxsize=16)
def _load(path: Path, changed: int) -> Tasks:  # changed: a file that was edited is read again
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"the taxonomy {path} is no readable YAML: {error}") from error
    listed = data.get("tasks") if isinstance(data, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"the taxonomy {path} needs `tasks:`, a mapping with one entry per task")
    tasks, wrong = _tasks(listed)
    default = data.get("default", "default")
    if not wrong and default not in tasks:
        wrong.append(f"`default: {default}` is none of its tasks")
    if wrong:
        raise UserError(f"the taxonomy {path} has mistakes: {'; '.join(wrong)}")
    return Tasks(str(data.get("version", 1)), default, tasks)


def _tasks(listed: Mapping[Any, Any]) -> tuple[dict[str, Task], list[str]]:
    tasks: dict[str, Task] = {}
    wrong: list[str] = []
    for name, entry in listed.items():
        reason = _mistake(name, entry)
        if reason is not None:
            wrong.append(f"{name}: {reason}")
            continue
        tasks[name] = Task(
            name=name,
            group=str(entry["group"]).strip(),
            means=str(entry["means"]).strip(),
            format=str(entry["format"]).strip(),
            rewrite=entry.get("rewrite", False),
            evidence=entry.get("evidence", False),
            checks=frozenset(entry.get("checks", ())),
        )
    return tasks, wrong


def _mistake(name: Any, entry: Any) -> str | None:
    if not isinstance(name, str) or not isinstance(entry, dict):
        return "should be a name with a mapping of group, means and format"
    if unknown := sorted(map(str, entry.keys() - _KEYS)):
        return f"unknown key {unknown[0]!r} (known: {', '.join(sorted(_KEYS))})"
    if missing := [key for key in ("group", "means", "format") if not str(entry.get(key) or "").strip()]:
        return f"{missing[0]!r} is missing"
    if wrong := [flag for flag in ("rewrite", "evidence") if not isinstance(entry.get(flag, False), bool)]:
        return f"{wrong[0]!r} should be true or false"
    checks = entry.get("checks", [])
    if not isinstance(checks, list) or not set(checks) <= set(get_args(Check)):
        return f"`checks` should be a list of {', '.join(get_args(Check))}"
    return None
