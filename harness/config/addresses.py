"""Addresses of values in a configuration: `--set ifd-10.top.keep=5%`, `--set seeds=1`, and the keys of `vary:`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.checks import nearest, shown_setting
from harness.config.document import Document, Mark, Node, Path_, Problems, parse
from harness.config.model import VERBS


@dataclass(frozen=True)
class Override:
    """One `--set address=value`, read but not yet applied."""

    address: tuple[str, ...]
    value: Any
    mark: Mark

    @property
    def head(self) -> str:
        return self.address[0]


def read_overrides(texts: Sequence[str], problems: Problems) -> list[Override]:
    """Reads `address=value` texts; the value is YAML."""
    found = []
    for text in texts:
        address, equals, written = text.partition("=")
        mark = Mark(f"--set {shown_setting(text)}", None, Path.cwd())
        parts = tuple(address.strip().split("."))
        if not equals or not all(parts):
            problems.add("should be address=value, such as ifd-10.top.keep=5% or seeds=1", mark)
            continue
        document = parse(written, mark, problems, lines=False)
        if document is not None and document.data is None and written.lstrip().startswith("#"):
            problems.add("the value begins with #, which YAML takes for a comment: put it in double quotes", mark)
        elif document is not None:
            found.append(Override(parts, document.data, mark))
    return found


def put_into(document: Document, override: Override, problems: Problems, prefix: Path_ = ()) -> None:
    """Sets an override in a plain tree."""
    try:
        document.put((*prefix, *override.address), override.value, override.mark)
    except KeyError as error:
        problems.add(f"there is nothing at {'.'.join(override.address)}: {error.args[0]} has no parts", override.mark)


def put_into_recipe(node: Node, address: Sequence[str], value: Any, mark: Mark, problems: Problems) -> None:
    """Sets a value in a recipe: `<step>.<field>...` where step is an `as` name or a block's name, or `loop.<field>`."""
    if len(address) < 2:
        problems.add("should name a step and a field, such as ifd-10.top.keep", mark)
        return
    prefix = _part(node, address[0], problems, mark)
    if prefix is None:
        return
    if address[1] == "as" or address[1] in VERBS:
        problems.add(f"{address[1]} makes another recipe; only options, `from` and the loop can be set", mark)
        return
    fields: Path_ = tuple(address[1:])
    try:
        node.doc.put((*node.path, *prefix, *fields), value, mark)
    except KeyError as error:
        problems.add(f"there is nothing at {'.'.join(address)}: {error.args[0]} has no parts", mark)


def _part(node: Node, name: str, problems: Problems, mark: Mark) -> Path_ | None:
    if name == "loop":
        return ("loop",)
    steps = node.get("steps")
    named = _step_names(steps.value if steps is not None and isinstance(steps.value, list) else [])
    places = [i for i, names in enumerate(named) if name in names]
    if len(places) == 1:
        return ("steps", places[0])
    if places:
        problems.add(f"{len(places)} steps are called {name!r}; give the one you mean a name with `as`", mark)
    else:
        problems.add(
            f"the recipe has no step {name!r}{nearest(name, {n for ns in named for n in ns} | {'loop'})}", mark
        )
    return None


def _step_names(steps: Sequence[Any]) -> list[set[str]]:
    """Names that address each step: its `as` name and its block's name; an `as` name hides an equal block name."""
    own = {step["as"] for step in steps if isinstance(step, dict) and isinstance(step.get("as"), str)}
    result = []
    for step in steps:
        keys = step if isinstance(step, dict) else {}
        blocks = {str(keys[verb]) for verb in VERBS if verb in keys}
        result.append({keys["as"]} | (blocks - own) if isinstance(keys.get("as"), str) else blocks - own)
    return result


# --- vary -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Variant:
    """A recipe with other options: `settings` holds address (without the recipe's name) -> value."""

    base: str
    settings: Mapping[str, Any]
    mark: Mark

    @property
    def name(self) -> str:
        return f"{self.base}[{','.join(f'{key}={_brief(value)}' for key, value in self.settings.items())}]"


def read_variants(node: Node | None, recipes: Mapping[str, Node], problems: Problems) -> list[Variant]:
    """The cells that `vary:` adds: per recipe, every combination of the values listed for it.

    `train.<option>` varies all recipes. The recipes themselves stay; a combination equal to one of them is left to it.
    """
    if node is None:
        return []
    if not isinstance(node.value, dict):
        problems.add("vary: should be a mapping such as {ifd-10.top.keep: [5%, 10%]}", node.mark())
        return []
    axes: dict[str, dict[str, list[Any]]] = {}
    for address, child in node.items():
        head, _, rest = address.partition(".")
        if not isinstance(child.value, list) or not child.value:
            problems.add(f"{address}: should list at least one value", child.mark())
        elif not rest or (head != "train" and head not in recipes):
            problems.add(f"vary: {address!r} should begin with a recipe or train{nearest(head, recipes)}", child.mark())
        else:
            for base in recipes if head == "train" else [head]:
                axes.setdefault(base, {})[address if head == "train" else rest] = child.value
    return [Variant(base, point, node.mark()) for base, lists in axes.items() for point in _points(lists)]


def _points(lists: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values()))


def _brief(value: Any) -> str:
    return str(value).replace(" ", "")
