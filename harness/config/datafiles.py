"""Files behind names: the entries of `datasets_cfg/`, and block options that are such files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.config.checks import existing_path, fill, resolve_path
from harness.config.document import Node, Problems, overlay, read
from harness.config.places import find, unknown
from harness.records.values import DataFile

M = TypeVar("M", bound=BaseModel)
DATA_SUFFIXES = (".json", ".jsonl", ".gz", ".parquet", ".csv")
_USER = re.compile(r"\w+://[^/?#]*@")
_NOWHERE: dict[str, Any] = {"name": "?", "path": "?"}


class Place(NamedTuple):
    """Where a source's file is: exactly one of the two is set."""

    path: str | None
    url: str | None


def source_node(node: Node, problems: Problems, above: tuple[str, ...] = ()) -> Node | None:
    """The mapping that describes a source, with what `use:` brings in laid under it; None with the mistake noted."""
    value = node.value
    if isinstance(value, str):
        return _file(value, node, problems, above)
    if not isinstance(value, dict):
        problems.add("a dataset should be a name, a path or a mapping", node.mark())
        return None
    if "use" not in value:
        return node
    base = _file(str(value["use"]), node.child("use"), problems, above)
    return None if base is None else overlay(base, node)


def file_place(node: Node, problems: Problems) -> Place | None:
    """The path of a source where it is there, else its URL; None with the mistake noted."""
    path, url = node.value.get("path"), node.value.get("url")
    if path is None and url is None:
        problems.add("a dataset needs a path or a url, or kind: pocket", node.mark())
    elif path is not None and not isinstance(path, str):
        problems.add("path: should be text", node.mark("path"))
    elif url is not None and node.value.get("sha256") is None:
        problems.add(
            "a url needs the sha256 of the file, so that what is downloaded is what was meant", node.mark("url")
        )
    elif url is not None and _USER.match(str(url)):
        problems.add("url: should hold no user or password, which would stand in records of the run", node.mark("url"))
    elif url is not None:
        here = None if path is None else resolve_path(path, node, Problems(), "path")
        return Place(None, str(url)) if here is None or not here.is_file() else Place(str(here), None)
    else:
        found = existing_path(str(path), node, problems, "path")
        return None if found is None else Place(str(found), None)
    return None


def read_datafile(node: Node, problems: Problems) -> DataFile | None:
    """The file that an option names: an entry of `datasets_cfg/`, a path, or a mapping. None with the mistake noted."""
    value = node.value
    if isinstance(value, str) and value.endswith(DATA_SUFFIXES):
        path = existing_path(value, node, problems)
        return None if path is None else DataFile(name=Path(value).name, path=str(path))
    source = source_node(node, problems)
    place = None if source is None else file_place(source, problems)
    if source is None or place is None:
        return None
    sums = {key: source.value.get(key) for key in ("sha256", "sha256_unpacked")}
    named = Path(str(place.path or place.url)).name
    name = str(source.value.get("dataset", named if isinstance(value, dict) else value))
    try:
        return DataFile(name=name, path=place.path, url=place.url, **sums)
    except ValidationError:
        problems.add("sha256: should be text, the checksum of the file", source.mark("sha256"))
        return None


def fill_block(node: Node, cls: type[M], problems: Problems, *, drop: Any = ()) -> M | None:
    """As `harness.config.checks.fill`, with the options that are data files looked up."""
    before = len(problems)
    value = node.value if isinstance(node.value, dict) else {}
    fields = datafile_fields(cls)
    names = [name for name in value if name in fields and value[name] is not None]
    given: dict[str, Any] = {}
    for name in names:
        child = node.child(name)
        several = get_origin(cls.model_fields[name].annotation) is Mapping and isinstance(child.value, dict)
        given[name] = {k: _shown(v, problems) for k, v in child.items()} if several else _shown(child, problems)
    block = fill(node, cls, problems, drop=[*drop, *names], **given)
    return block if len(problems) == before else None


def _shown(node: Node, problems: Problems) -> dict[str, Any]:
    file = read_datafile(node, problems)
    return _NOWHERE if file is None else dict(file)


def datafile_fields(cls: type[BaseModel]) -> set[str]:
    """Names of the options that are data files."""

    def holds(annotation: Any) -> bool:
        return annotation is DataFile or any(holds(part) for part in get_args(annotation))

    return {name for name, info in cls.model_fields.items() if holds(info.annotation)}


def _file(name: str, node: Node, problems: Problems, above: tuple[str, ...]) -> Node | None:
    if name in above:
        problems.add(f"datasets refer to each other in a circle: {' -> '.join((*above, name))}", node.mark())
        return None
    path = find("dataset", name, node.mark().folder)
    if path is None:
        problems.add(unknown("dataset", name, node.mark().folder), node.mark())
        return None
    document = read(path, problems)
    return None if document is None else source_node(document.root(), problems, (*above, name))
