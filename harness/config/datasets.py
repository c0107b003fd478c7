"""`data:` of an experiment: named sources of examples, from `datasets_cfg/` files, data files or inline mappings."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from harness.config.checks import existing_path, fill, nearest
from harness.config.datafiles import DATA_SUFFIXES, file_place, source_node
from harness.config.document import Node, Problems
from harness.config.model import Dataset, Registry
from harness.config.suites import read_suite

__all__ = ["DATA_SUFFIXES", "read_dataset"]

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
    place = file_place(node, problems)
    return dataset if place is None else dataset.model_copy(update={"path": place.path, "url": place.url})


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
