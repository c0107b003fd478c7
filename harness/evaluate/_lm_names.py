"""Finds lm-eval's tasks, groups and tags by name, without importing lm_eval for the common ones.

A task lies where its name says, nearly always. What does not is looked up in lm-eval's own index of its 14,000 files.
Building that takes from seconds to minutes (a slow disk), so the one of the version that loopbench pins lies beside
this file (`python -m harness.evaluate._lm_names` writes it); that of any other version is kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from harness.errors import UserError

Row = tuple[str, str | None, Sequence[str]]
GROUP, TAG = "GROUP", "TAG"
SHIPPED = Path(__file__).with_name("lm_tasks.json.gz")
_SHOWN = 5


@dataclass(frozen=True)
class Entry:
    """What a name stands for: a file with a task or a group, or (tags) the names of several tasks."""

    kind: str
    file: Path | None
    members: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def root() -> Path:
    """The folder of the installed package's tasks.

    Raises:
        UserError: lm-eval is not installed.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("lm-eval is not installed: `pip install lm-eval`")
    return Path(spec.submodule_search_locations[0]) / "tasks"


@lru_cache(maxsize=256)
def find(name: str, beside: Path | None = None) -> Entry:
    """What a name stands for; files in the folder `beside` come before lm-eval's own.

    Raises:
        UserError: lm-eval has nothing of this name; the message holds the nearest names.
    """
    folders = [beside] if beside is not None else []
    folders += [root() / name, root() / name.partition("_")[0]]
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            if kind := _declares(path, name):
                return Entry(kind, path)
    known = _index()
    if name in known:
        kind, file, members = known[name]
        return Entry(kind, root() / file if file else None, tuple(members))
    near = get_close_matches(name, known, n=_SHOWN, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else "its tasks/README.md lists them"
    raise UserError(
        f"lm-eval {version('lm-eval')} has no task, group or tag named {name!r}: {hint} The path of a task YAML "
        "of your own can stand here too"
    )


def _declares(path: Path, name: str) -> str | None:
    """`TASK` or `GROUP` where the file is the one of that name."""
    text = path.read_text(encoding="utf-8")
    for key, kind in (("group", GROUP), ("task", "TASK")):
        if re.search(rf"^[\"']?{key}[\"']?:\s*[\"']?{re.escape(name)}[\"']?\s*$", text, re.MULTILINE):
            return kind
    return None


@lru_cache(maxsize=1)
def _index() -> Mapping[str, Row]:
    here = version("lm-eval")
    for file in (SHIPPED, _cache_file(here)):
        with contextlib.suppress(OSError, json.JSONDecodeError):
            found = json.loads(gzip.decompress(file.read_bytes()))
            if found["version"] == here:
                names: Mapping[str, Row] = found["names"]
                return names
    built = build()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write(_cache_file(here), built)
    return built


def build() -> dict[str, Row]:
    """lm-eval's own index, read from all its files: name to (kind, path in its folder, members of a tag)."""
    from harness.evaluate._lm_quiet import quiet

    with quiet():
        from lm_eval.tasks._index import TaskIndex

        found = TaskIndex.build([root()])
    return {
        name: (
            entry.kind.name,
            entry.yaml_path.relative_to(root()).as_posix() if entry.yaml_path else None,
            sorted(entry.tags) if entry.kind.name == TAG else [],
        )
        for name, entry in sorted(found.items())
    }


def write(file: Path, names: Mapping[str, Row]) -> None:
    """Writes an index; the same names give the same bytes."""
    text = json.dumps({"version": version("lm-eval"), "names": names}, separators=(",", ":"))
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(gzip.compress(text.encode(), mtime=0))
    fresh.replace(file)


def _cache_file(release: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "loopbench" / f"lm-eval-{release}.json.gz"


if __name__ == "__main__":
    write(SHIPPED, build())
