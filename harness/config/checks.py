"""Fills typed classes from YAML and turns what pydantic finds into plain sentences with file and line."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from harness.config.document import Node, Problems
from harness.records.values import FILE

M = TypeVar("M", bound=BaseModel)
_SECRETS = r"(api[_-]?key|access[_-]?key|token|password|passwd|secret|authorization|headers?|cookies?|credentials?)"
SECRET = re.compile(rf"(^|[_-]){_SECRETS}$", re.IGNORECASE)
"""A key whose value may be a secret, or hold one."""
_SECRET_INSIDE = re.compile(rf"(^|[^a-z0-9]){_SECRETS}[\"']?\s*[:=]", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHOULD = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "empty",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, and all where they are few."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = f" Known: {', '.join(names)}." if names and len(names) <= 40 else ""
    return hint + listed


def fill(node: Node, cls: type[M], problems: Problems, *, drop: Iterable[str] = (), **given: Any) -> M | None:
    """An instance of `cls` from a mapping, or None with its mistakes noted.

    `drop` names keys that are read elsewhere; `given` are fields that the file does not hold. The mapping is validated
    as strict JSON: lists become tuples, but nothing else is converted, so `"3"` is not a number.
    """
    value = node.value
    if not isinstance(value, dict):
        problems.add(f"should be a mapping (key: value), not {brief(value)}", node.mark())
        return None
    values = {key: item for key, item in value.items() if key not in set(drop)}
    before = len(problems)
    for key in values.keys() & set(getattr(cls, "given", ())):
        problems.add(_unknown((key,), cls), node.mark(key))
    values = _with_paths(values, node, cls, problems)
    try:
        result = cls.model_validate_json(json.dumps(values | given), strict=True)
    except ValidationError as error:
        explain(error, node, cls, values, problems)
        return None
    return result if len(problems) == before else None


def explain(
    error: ValidationError, node: Node, cls: type[BaseModel], values: Mapping[str, Any], problems: Problems
) -> None:
    """Notes every mistake that pydantic found, each at the line of its key."""
    merged: dict[tuple[tuple[str | int, ...], str], list[str]] = {}
    for item in error.errors(include_url=False):
        path = _known_part(item["loc"], values, missing=item["type"] in ("missing", "extra_forbidden"))
        unknown = item["type"] == "extra_forbidden"
        said = _unknown(path, cls) if unknown else _sentence(item, path)
        merged.setdefault((path, "unknown" if unknown else "value"), []).append(said)
    for (path, _), sentences in merged.items():
        name = ".".join(str(part) for part in path)
        text = _joined(list(dict.fromkeys(sentences)))
        problems.add(f"{name}: {text}" if name and not text.startswith("unknown") else text, node.mark(*path))


def resolve_path(text: str, node: Node, problems: Problems, *sub: str | int) -> Path | None:
    """A path of a YAML file: `${NAME}` and `~` expanded, relative to the file it stands in. Not checked to exist."""
    mark = node.mark(*sub)
    unset = [name for name in _VARIABLE.findall(text) if not os.environ.get(name)]
    for name in unset:
        problems.add(f"{text}: the environment variable {name} is not set; set it to the folder of your data", mark)
    if unset:
        return None
    path = Path(_VARIABLE.sub(lambda match: os.environ[match[1]], text)).expanduser()
    return path if path.is_absolute() else mark.folder / path


def existing_path(text: str, node: Node, problems: Problems, *sub: str | int) -> Path | None:
    """As `resolve_path`, and the file or folder must be there."""
    path = resolve_path(text, node, problems, *sub)
    if path is not None and not path.exists():
        problems.add(f"there is no file or folder {path}", node.mark(*sub))
        return None
    return path


def brief(value: Any, key: str = "") -> str:
    """A value as messages show it: short, and never one that may be a secret."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if SECRET.search(key) or _SECRET_INSIDE.search(text):
        return "the given value"
    return text if len(text) <= 60 else text[:57] + "..."


def shown_setting(text: str) -> str:
    """A `--set` text as messages show it: without its value, where that may be or hold a secret."""
    address, equals, value = text.partition("=")
    secret = any(SECRET.search(part.strip()) for part in address.split(".")) or _SECRET_INSIDE.search(value)
    return f"{address}{equals}***" if secret else text


def _with_paths(values: dict[str, Any], node: Node, cls: type[BaseModel], problems: Problems) -> dict[str, Any]:
    """Options that are file paths, resolved; they must exist, so a missing file is found before anything runs."""
    result = dict(values)
    for key in values.keys() & path_fields(cls):
        value = values[key]
        if value in getattr(cls, "shipped", ()):
            continue  # the name of something that comes with the package
        if isinstance(value, list):
            result[key] = [_found(item, node, problems, key, i) for i, item in enumerate(value)]
        else:
            result[key] = _found(value, node, problems, key)
    return result


def _found(written: Any, node: Node, problems: Problems, *sub: str | int) -> Any:
    if not isinstance(written, str):
        return written
    path = existing_path(written, node, problems, *sub)
    return written if path is None else str(path)


def path_fields(cls: type[BaseModel]) -> set[str]:
    """Names of the options that are paths of files."""

    def holds(annotation: Any) -> bool:
        return annotation is Path or annotation == FILE or any(holds(part) for part in get_args(annotation))

    return {name for name, info in cls.model_fields.items() if FILE in info.metadata or holds(info.annotation)}


def _known_part(loc: tuple[str | int, ...], values: Any, *, missing: bool) -> tuple[str | int, ...]:
    """The part of pydantic's location that the file has; the rest names members of a union."""
    path: list[str | int] = []
    for key in loc:
        inside = (isinstance(values, dict) and key in values) or (
            isinstance(values, list) and isinstance(key, int) and key < len(values)
        )
        if inside:
            path.append(key)
            values = values[key]
        elif missing and key == loc[-1]:
            path.append(key)
    return tuple(path)


def _sentence(item: Any, path: tuple[str | int, ...]) -> str:
    kind, text = item["type"], str(item["msg"])
    if kind == "missing":
        return "is required"
    if kind in ("value_error", "assertion_error"):
        return text.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    value = brief(item["input"], next((str(key) for key in path if SECRET.search(str(key))), ""))
    if kind == "literal_error" and isinstance(item["input"], str):
        expected = re.findall(r"'([^']*)'", text)
        return f"there is no {value}{nearest(item['input'], expected)}"
    if kind in _SHOULD:
        return f"should be {_SHOULD[kind]}, not {value}"
    return f"{text[:1].lower()}{text[1:]}, not {value}".removeprefix("input ").removeprefix("value ")


def _joined(said: list[str]) -> str:
    """Sentences about one value (the members of a union) as one: `should be a whole number or a list, not "x"`."""
    parts = [re.fullmatch(r"should be (.*), not (.*)", text, re.DOTALL) for text in said]
    if len(said) > 1 and all(parts):
        wants = " or ".join(match[1] for match in parts if match)
        return f"should be {wants}, not {parts[0][2] if parts[0] else ''}"
    return "; or ".join(said)


def _unknown(path: tuple[str | int, ...], cls: type[BaseModel]) -> str:
    at = _class_at(cls, path[:-1])
    known = [] if at is None else [name for name in at.model_fields if name not in getattr(at, "given", ())]
    return f"unknown key {str(path[-1])!r}{nearest(str(path[-1]), known)}"


def _class_at(cls: type[BaseModel] | None, path: tuple[str | int, ...]) -> type[BaseModel] | None:
    for key in path:
        if cls is None:
            return None
        if isinstance(key, int):
            continue
        info = cls.model_fields.get(key)
        cls = None if info is None else next(_classes(info.annotation), None)
    return cls


def _classes(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _classes(part)
