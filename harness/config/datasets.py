"""`data:` of an experiment: named sources of examples, from `datasets_cfg/` files, data files or inline mappings."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

from harness.config.checks import existing_path, fill, nearest
from harness.config.datafiles import DATA_SUFFIXES, Place, file_place, source_node
from harness.config.document import Node, Problems
from harness.config.model import Dataset, Registry
from harness.config.suites import read_suite

__all__ = ["DATA_SUFFIXES", "read_dataset"]

_OF_TAXONOMY = frozenset({"leaves", "bad_leaves", "documents"})
_SHIPPED = "pocket/taxonomy"
_OF_EXAMPLES = frozenset({"sha256", "sha256_unpacked", "format", "columns", "withhold", "part", "exclude"})
_ELSEWHERE = frozenset({"dataset", "use", "exclude", "path"})


def read_dataset(
    node: Node, registry: Registry, problems: Problems, above: tuple[str, ...] = (), role: str = "inline"
) -> Dataset | None:
    """The dataset that a value of `data:` names or describes; None where it has mistakes (noted).

    An inline mapping without a name of its own takes `role`, because names become part of the ids of rows.
    """
    value = node.value
    if isinstance(value, str) and value.endswith(DATA_SUFFIXES):
        path = existing_path(value, node, problems)
        return None if path is None else Dataset(name=Path(value).name, kind="file", path=str(path), written=value)
    name = value if isinstance(value, str) else str(value.get("dataset", role)) if isinstance(value, dict) else ""
    source = source_node(node, problems, above)
    if source is None:
        return None
    before = len(problems)
    exclude = _exclude(source, registry, problems, (*above, name))
    dataset = fill(source, Dataset, problems, drop=_ELSEWHERE, name=name, written=_written(source.value))
    if dataset is None:
        return None
    dataset = _located(dataset, source, problems)
    return dataset.model_copy(update={"exclude": exclude}) if len(problems) == before else None


def _written(value: dict[str, Any]) -> str:
    return str(value.get("path") or value.get("url") or "")


def _located(dataset: Dataset, node: Node, problems: Problems) -> Dataset:
    """Checks that the source says where its rows are, and resolves the path."""
    if dataset.kind == "pocket":
        _check_pocket(dataset, node, problems)
        if node.value.get("path") is not None or dataset.url is not None:
            problems.add("a pocket dataset is generated: it has neither path nor url", node.mark())
        return dataset
    if dataset.options:
        problems.add("options: only a dataset of kind pocket has options", node.mark("options"))
    if dataset.part == "withheld" and dataset.withhold is None:
        problems.add(
            "part: withheld needs `withhold: {rows: n}`, which says how many rows are set apart", node.mark("part")
        )
    if dataset.kind == "taxonomy" and node.value.get("path") == _SHIPPED:
        return dataset.model_copy(update={"path": str(_shipped())})
    place = file_place(node, problems)
    if place is None:
        return dataset
    for key in _OF_TAXONOMY & node.value.keys() if dataset.kind != "taxonomy" else ():
        problems.add(f"{key}: only a dataset of kind taxonomy has this", node.mark(key))
    _check_folder(dataset, place, node, problems)
    form = {"format": "rows"} if dataset.kind == "folder" else {}
    return dataset.model_copy(update={"path": place.path, "url": place.url} | form)


def _shipped() -> Path:
    """The taxonomy that comes with loopbench."""
    spec = importlib.util.find_spec("harness.pocket")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    return Path(places[0]) / "taxonomy"


def _check_folder(dataset: Dataset, place: Place, node: Node, problems: Problems) -> None:
    """A folder says so: `kind: folder`; what is meant for the examples of a file does not fit one."""
    folder = place.path is not None and Path(place.path).is_dir()
    if dataset.kind != "folder":
        if folder and dataset.kind != "taxonomy":
            problems.add(
                f"path: {place.path} is a folder; write `kind: folder` to read its files, `kind: taxonomy` for leaves",
                node.mark("path"),
            )
        if "files" in node.value:
            problems.add("files: only a dataset of kind folder has this", node.mark("files"))
        return
    if not folder:
        problems.add("a dataset of kind folder needs `path`, a folder", node.mark("path"))
    for key in _OF_EXAMPLES & node.value.keys():
        problems.add(f"{key}: a folder's files are read as they are, and have no such setting", node.mark(key))


def _check_pocket(dataset: Dataset, node: Node, problems: Problems) -> None:
    """The generator's own signature says which options it has."""
    rows = importlib.import_module("harness.pocket.pool").rows
    known = [name for name in inspect.signature(rows).parameters if name != "count"] + ["rows"]
    for key in dataset.options.keys() - set(known):
        problems.add(f"options: unknown key {key!r}{nearest(key, known)}", node.mark("options", key))
    total = dataset.options.get("rows")
    if not isinstance(total, int) or isinstance(total, bool) or total < 1:
        problems.add("options.rows: should say how many rows to generate, from 1 on", node.mark("options", "rows"))


def _exclude(node: Node, registry: Registry, problems: Problems, above: tuple[str, ...]) -> tuple[Any, ...]:
    """The datasets and suites whose prompts are kept out of this source."""
    listed = node.get("exclude")
    if listed is None:
        return ()
    if not isinstance(listed.value, dict) or not listed.value.keys() <= {"datasets", "suites"}:
        problems.add("exclude: should be {suites: [names], datasets: [names]}", listed.mark())
        return ()
    found: list[Any] = []
    for key, names in listed.items():
        if not isinstance(names.value, list):
            problems.add(f"exclude.{key}: should be a list of names", names.mark())
            continue
        each = list(names.values())
        if key == "datasets":
            found += [read_dataset(name, registry, problems, above) for name in each]
        else:
            found += [read_suite(name, registry, problems) for name in each]
    return tuple(item for item in found if item is not None)
