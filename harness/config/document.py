"""YAML 1.2 files as plain values that remember where each key stands.

Only plain data is read: text, numbers, true/false, null, lists and mappings. Tags, duplicate keys, merge keys and
numbers that are not finite are mistakes. `2e-5` is a number; `yes` and dates are text.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, Problem

Path_ = tuple[str | int, ...]
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null")}
_TEXT = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "timestamp", "value")}


@dataclass(frozen=True)
class Mark:
    """Where something was written. `folder` is what relative paths in it start from."""

    file: str
    line: int | None
    folder: Path


class Problems:
    """Collects mistakes so that all are shown together; the same sentence about the same line is kept once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, message: str, mark: Mark | None = None) -> None:
        """Notes a mistake at a place; without a mark it is about the command as a whole."""
        self._found[Problem(message) if mark is None else Problem(message, mark.file, mark.line)] = None

    def __len__(self) -> int:
        return len(self._found)

    def stop_if_any(self) -> None:
        """Raises ConfigError with all mistakes found so far."""
        if self._found:
            raise ConfigError(tuple(self._found))


@dataclass
class Document:
    """A tree of plain values with the mark of every key and list item, addressed by path."""

    data: Any
    top: Mark
    marks: dict[Path_, Mark] = field(default_factory=dict)

    def root(self) -> Node:
        return Node(self, ())

    def copy(self) -> Document:
        """An independent copy: changing one leaves the other."""
        return Document(copy.deepcopy(self.data), self.top, dict(self.marks))

    def put(self, path: Path_, value: Any, mark: Mark) -> None:
        """Sets the value at a path, making mappings on the way.

        Raises:
            KeyError: the path leads through something that is neither a mapping nor an existing list item.
        """
        at: Any = self.data
        for key in path[:-1]:
            if isinstance(at, dict):
                at = at.setdefault(str(key), {})
            else:
                at = at[_position(at, key)]
        at[str(path[-1]) if isinstance(at, dict) else _position(at, path[-1])] = copy.deepcopy(value)
        self.marks = {p: m for p, m in self.marks.items() if p[: len(path)] != path} | {path: mark}


def _position(value: Any, key: str | int) -> int:
    """The index that a part of an address means in a list.

    Raises:
        KeyError: the value is no list, or has no such item.
    """
    if isinstance(value, list) and str(key).isdigit() and int(key) < len(value):
        return int(key)
    raise KeyError(key)


@dataclass(frozen=True)
class Node:
    """One value inside a document."""

    doc: Document
    path: Path_

    @property
    def value(self) -> Any:
        at = self.doc.data
        for key in self.path:
            at = at[key]
        return at

    def mark(self, *sub: str | int) -> Mark:
        """The mark of a key below, or of the nearest thing around it that has one."""
        path = (*self.path, *sub)
        while path and path not in self.doc.marks:
            path = path[:-1]
        return self.doc.marks.get(path, self.doc.top)

    def child(self, *sub: str | int) -> Node:
        return Node(self.doc, (*self.path, *sub))

    def get(self, key: str) -> Node | None:
        """The value under a key; None where this is no mapping or has no such key."""
        return self.child(key) if isinstance(self.value, dict) and key in self.value else None

    def items(self) -> Iterator[tuple[Any, Node]]:
        """Keys (or positions) and values of a mapping (or list)."""
        value = self.value
        keys: Any = value if isinstance(value, dict) else range(len(value))
        return ((key, self.child(key)) for key in keys)

    def values(self) -> Iterator[Node]:
        """As `items`, without the keys."""
        return (child for _, child in self.items())


def overlay(base: Node, top: Node, drop: frozenset[str] = frozenset()) -> Node:
    """A mapping with the keys of both, `top` first where both have one (mappings in both are joined one level deep)."""
    merged = Document({}, top.mark())
    for node in (base, top):
        for key, child in node.items():
            if key in drop:
                continue
            old, new = merged.data.get(key), child.value
            both = isinstance(old, dict) and isinstance(new, dict) and "by_iteration" not in {*old, *new}
            if not both:
                merged.marks = {p: m for p, m in merged.marks.items() if p[0] != key}
            merged.data[key] = copy.deepcopy(old | new if both else new)
            merged.marks[(key,)] = child.mark()
            depth = len(child.path)
            merged.marks |= {
                (key, *p[depth:]): m for p, m in node.doc.marks.items() if p[:depth] == child.path and len(p) > depth
            }
    return merged.root()


def shown(path: Path) -> str:
    """A path as messages show it: relative to the working folder where it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)


def read(path: Path, problems: Problems) -> Document | None:
    """The document of a file; None where it is unreadable (the reason is noted)."""
    top = Mark(shown(path), None, path.resolve().parent)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problems.add(f"cannot be read: {error.strerror or error}", top)
        return None
    except UnicodeDecodeError as error:
        problems.add(f"is not UTF-8 text: {error.reason} at byte {error.start}", top)
        return None
    return parse(text, top, problems)


def parse(text: str, top: Mark, problems: Problems, *, lines: bool = True) -> Document | None:
    """The document of a text; None where it is no YAML (the reason is noted, and the line unless a flag holds it)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        line = where.line + 1 if where is not None and lines else None
        problems.add(f"is not valid YAML: {error.problem or error.context}", Mark(top.file, line, top.folder))
        return None
    except YAMLError as error:
        problems.add(f"is not valid YAML: {' '.join(str(error).split())}", top)
        return None
    document = Document(None, top)
    if node is not None:
        document.data = _Reader(yaml.constructor, document, problems, lines).read(node, (), ())
    return document


class _Reader:
    def __init__(self, constructor: Any, document: Document, problems: Problems, lines: bool) -> None:
        self.constructor, self.document, self.problems, self.lines = constructor, document, problems, lines

    def at(self, node: Any) -> Mark:
        top = self.document.top
        return Mark(top.file, node.start_mark.line + 1 if self.lines else None, top.folder)

    def read(self, node: Any, path: Path_, above: tuple[int, ...]) -> Any:
        if id(node) in above:
            self.problems.add("an alias refers to the value that it stands in", self.at(node))
            return None
        self.document.marks.setdefault(path, self.at(node))
        if node.id == "mapping":
            return self.mapping(node, path, (*above, id(node)))
        if node.id == "sequence":
            return [self.read(item, (*path, i), (*above, id(node))) for i, item in enumerate(node.value)]
        return self.scalar(node)

    def mapping(self, node: Any, path: Path_, above: tuple[int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if key.id != "scalar" or key.value == "<<":
                self.problems.add("a key must be plain text; merge keys (<<) are not read", self.at(key))
            elif key.value in result:
                first = self.document.marks[(*path, key.value)].line
                self.problems.add(f"{key.value!r} is given twice; the first is in line {first}", self.at(key))
            else:
                self.document.marks[(*path, key.value)] = self.at(key)
                result[key.value] = self.read(value, (*path, key.value), above)
        return result

    def scalar(self, node: Any) -> Any:
        tag = str(node.tag)
        if tag in _TEXT:
            return str(node.value)
        if tag not in _PLAIN:
            self.problems.add(f"the tag {tag} is not read: configurations hold plain data only", self.at(node))
            return None
        value = self.constructor.construct_object(node)
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.add(f"{node.value} is not a finite number", self.at(node))
            return None
        return None if value is None else value if isinstance(value, int | bool) else float(value)
