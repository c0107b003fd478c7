"""Recipes: the file or inline mapping, its loop policy and its steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.checks import brief, fill, nearest
from harness.config.document import Node, Problems, overlay, read
from harness.config.model import NAME, LoopPolicy, Model, Recipe, Registry
from harness.config.places import find, unknown
from harness.config.scope import Scope
from harness.config.steps import as_names, read_step

_KEYS = ("recipe", "description", "pool", "loop", "steps")
POOL = "pool"


@dataclass(frozen=True)
class Setting:
    """What an experiment gives to its recipes."""

    data: frozenset[str]
    raw: frozenset[str]
    """Names of data whose rows are no examples."""
    models: Mapping[str, Model]
    students: frozenset[str]
    train: Node | None

    def seen(self, pool: str) -> tuple[frozenset[str], frozenset[str]]:
        """Names of data, and of those that hold no examples, as a recipe sees them that calls one of them `pool`."""
        data, raw = (names - {POOL} | ({POOL} if pool in names else set()) for names in (self.data, self.raw))
        return data, raw


def recipe_nodes(node: Node, problems: Problems) -> dict[str, Node]:
    """The mappings of all recipes that an experiment lists, by their names."""
    if not isinstance(node.value, list) or not node.value:
        problems.add("recipes: should be a list with at least one recipe", node.mark())
        return {}
    found: dict[str, Node] = {}
    for item in node.values():
        recipe = _mapping(item, problems)
        if recipe is None:
            continue
        name = recipe.value.get("recipe")
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            problems.add("a recipe needs `recipe: <its name>` of letters, digits, - and _", recipe.mark("recipe"))
        elif name in found:
            problems.add(f"two recipes are named {name!r}; each needs a name of its own", item.mark())
        else:
            found[name] = recipe
    return found


def _mapping(node: Node, problems: Problems) -> Node | None:
    """The recipe's mapping: as it stands, from a file, or (`use:`) a file's with some keys changed."""
    if isinstance(node.value, dict) and "use" not in node.value:
        return node
    if isinstance(node.value, dict):
        used = node.child("use")
        base = _mapping(used, problems)
        if base is None or isinstance(used.value, dict):
            return None
        whole = overlay(base, node, frozenset({"use"}))
        whole.doc.top = base.doc.top
        return whole
    if not isinstance(node.value, str):
        problems.add("a recipe should be a name, a path or a mapping", node.mark())
        return None
    path = find("recipe", node.value, node.mark().folder)
    if path is None:
        problems.add(unknown("recipe", node.value, node.mark().folder), node.mark())
        return None
    document = read(path, problems)
    if document is not None and not isinstance(document.data, dict):
        problems.add("a recipe file should hold a mapping with `recipe` and `steps`", document.top)
        return None
    return None if document is None else document.root()


def read_recipe(
    name: str,
    base: str,
    node: Node,
    setting: Setting,
    registry: Registry,
    problems: Problems,
    variation: Mapping[str, Any],
) -> Recipe | None:
    """A validated recipe; None where it has mistakes (noted). `base` is the name in the file, `name` with variation."""
    before = len(problems)
    for key in node.value.keys() - set(_KEYS):
        problems.add(f"unknown key {key!r}{nearest(key, _KEYS)}", node.mark(key))
    loop_node = node.get("loop")
    loop = LoopPolicy() if loop_node is None else fill(loop_node, LoopPolicy, problems)
    steps = node.get("steps")
    if steps is None or not isinstance(steps.value, list) or not steps.value:
        problems.add("steps: should be a list with at least one step", node.mark("steps"))
        return None
    pool = node.value.get("pool", POOL)
    if pool != POOL and pool not in setting.data:
        problems.add(f"pool: there is no data named {brief(pool)}{nearest(str(pool), setting.data)}", node.mark("pool"))
    data, raw = setting.seen(str(pool))
    scope = Scope(
        data=data,
        raw=raw,
        models=setting.models,
        students=setting.students,
        train=setting.train,
        iterations=1 if loop is None else loop.iterations,
        all_names=as_names(steps),
    )
    done = [read_step(step, scope, registry, problems, first=i == 0) for i, step in steps.items()]
    if len(problems) > before or loop is None:
        return None
    return Recipe(
        name=name,
        base=base,
        loop=loop,
        steps=tuple(step for step in done if step is not None),
        path=node.doc.top.file,
        train_overrides=scope.overridden,
        variation=dict(variation),
        pool=str(pool),
    )
