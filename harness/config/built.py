"""The recipes of an experiment, validated, and their variations from `vary:`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.config.addresses import Variant, put_into_recipe, read_variants
from harness.config.document import Document, Node, Problems
from harness.config.model import Dataset, Model, Recipe, Registry
from harness.config.recipes import Setting, read_recipe


def setting_of(
    root: Node, models: Mapping[str, Model], data: Mapping[str, Dataset], students: tuple[str, ...], problems: Problems
) -> Setting:
    """What the experiment gives to its recipes, its training options checked."""
    train = root.get("train")
    if train is not None and not isinstance(train.value, dict):
        if train.value is not None:
            problems.add("train: should be a mapping such as {learning_rate: 1e-3}", train.mark())
        train = None
    bound = dict(models) | {role: unreadable(role) for role in keys_of(root, "models") if role not in models}
    raw = frozenset(name for name, dataset in data.items() if dataset.format == "rows")
    return Setting(frozenset(keys_of(root, "data")), raw, bound, frozenset({"student", *students}), train)


def build_recipes(
    root: Node, nodes: Mapping[str, Node], setting: Setting, registry: Registry, problems: Problems
) -> list[Recipe]:
    """Every recipe, then its variations; a variation that changes nothing is left out."""
    built: list[Recipe] = []
    for name, node in nodes.items():
        recipe = read_recipe(name, name, node, setting, registry, problems, {})
        built += [] if recipe is None else [recipe]
    for variant in read_variants(root.get("vary"), nodes, problems):
        recipe = _variant(variant, nodes[variant.base], setting, registry, problems)
        if recipe is not None and not any(_same(recipe, other) for other in built):
            built.append(recipe)
    return built


def keys_of(root: Node, key: str) -> list[str]:
    """The names in a section of the file, whether they were read or have mistakes."""
    node = root.get(key)
    return list(node.value) if node is not None and isinstance(node.value, dict) else []


def unreadable(role: str) -> Model:
    """Stands for a model whose own mistake is noted already, so that its uses are not reported as well."""
    return Model(name=role, engine="transformers")


def _variant(variant: Variant, node: Node, setting: Setting, registry: Registry, problems: Problems) -> Recipe | None:
    copy = Node(node.doc.copy(), node.path)
    train = setting.train
    for address, value in variant.settings.items():
        head, *rest = address.split(".")
        if head == "train":
            train = _changed(train, tuple(rest), value, variant)
        else:
            put_into_recipe(copy, (head, *rest), value, variant.mark, problems)
    setting = replace(setting, train=train)
    return read_recipe(variant.name, variant.base, copy, setting, registry, problems, variant.settings)


def _changed(train: Node | None, path: tuple[str, ...], value: Any, variant: Variant) -> Node:
    document = Document({}, variant.mark) if train is None else train.doc.copy()
    at: tuple[str | int, ...] = () if train is None else train.path
    document.put((*at, *path), value, variant.mark)
    return Node(document, at)


def _same(one: Recipe, other: Recipe) -> bool:
    return one.base == other.base and one.loop == other.loop and one.steps == other.steps
