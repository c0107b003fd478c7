"""`suites:` of an experiment: what is measured, from `evalsuites/` files or inline mappings."""

from __future__ import annotations

from typing import Any

from harness.config.checks import fill, path_fields
from harness.config.document import Node, Problems, overlay, read
from harness.config.model import Model, Registry, SuiteRef
from harness.config.places import find, unknown
from harness.errors import UserError
from harness.records.values import share

MODEL_JUDGE = "rubric"
"""The judge block that asks a model, where a suite names no other."""
_KEYS = ("suite", "name", "use", "description", "judge", "dev")


def suite_node(node: Node, problems: Problems, depth: int = 0) -> tuple[str, Node] | None:
    """The name of a suite and the mapping that describes it, whether it stands inline or in a file."""
    value = node.value
    if isinstance(value, dict):
        if "use" not in value or depth > 8:
            return str(value.get("name", value.get("suite", ""))), node
        base = suite_node(node.child("use"), problems, depth + 1)
        return None if base is None else (str(value.get("name", base[0])), overlay(base[1], node, frozenset({"use"})))
    if not isinstance(value, str):
        problems.add("a suite should be a name, a path or a mapping", node.mark())
        return None
    path = find("suite", value, node.mark().folder)
    if path is None:
        problems.add(unknown("suite", value, node.mark().folder), node.mark())
        return None
    document = read(path, problems)
    if document is None:
        return None
    inside = suite_node(document.root(), problems, depth + 1)
    return None if inside is None else (path.stem, inside[1])


def read_suite(
    node: Node, registry: Registry, problems: Problems, judge: Model | None = None, *, judged: bool = False
) -> SuiteRef | None:
    """The suite that a value of `suites:` names or describes.

    `judge` is the model bound to the role `judge`. With `judged`, a suite that needs a judge and has none is a mistake.
    """
    named = suite_node(node, problems)
    return None if named is None else build_suite(*named, registry, problems, judge, judged=judged)


def build_suite(
    name: str, node: Node, registry: Registry, problems: Problems, judge: Model | None = None, *, judged: bool = False
) -> SuiteRef | None:
    """The suite that a mapping describes; None where it has mistakes (noted)."""
    block_name = node.value.get("suite")
    if not isinstance(block_name, str):
        problems.add("a suite needs `suite: <name of the suite block>`", node.mark())
        return None
    cls = get_block("suite", block_name, node.child("suite"), registry, problems)
    if cls is None:
        return None
    own = [key for key in _KEYS if key == "suite" or key not in cls.model_fields]
    block = fill(node, cls, problems, drop=own)
    dev = _dev(node, problems) if "dev" in own else None
    grader = _judge(node, judge, registry, problems) if "judge" in own else None
    if block is None:
        return None
    if judged and block.needs_judge() and grader is None:
        problems.add(f"the suite {name} needs a judge: bind the role `judge` under models", node.mark())
    written = {key: node.value[key] for key in path_fields(cls) if key in node.value}
    return SuiteRef(
        name=name, block_name=block_name, block=block, judge=grader, dev=dev, path=node.doc.top.file, written=written
    )


def get_block(kind: str, name: str, node: Node, registry: Registry, problems: Problems) -> Any | None:
    """The class of a block, or None with the reason noted."""
    try:
        return registry.get(kind, name)
    except UserError as error:
        problems.add(str(error), node.mark())
        return None


def _dev(node: Node, problems: Problems) -> float | None:
    if "dev" not in node.value or node.value["dev"] is None:
        return None
    try:
        return share(node.value["dev"])
    except ValueError as error:
        problems.add(f"dev: {error}", node.mark("dev"))
        return None


def _judge(node: Node, model: Model | None, registry: Registry, problems: Problems) -> Any | None:
    """The judge block: the suite's own `judge:` first, else what the model bound to the role `judge` calls for."""
    own = node.get("judge")
    if own is None:
        return None if model is None else _bound(model, registry)
    if isinstance(own.value, str):
        cls = get_block("judge", own.value, own, registry, problems)
        return None if cls is None else _default(cls, own, problems)
    if isinstance(own.value, dict) and isinstance(own.value.get("judge"), str):
        cls = get_block("judge", own.value["judge"], own.child("judge"), registry, problems)
        return None if cls is None else fill(own, cls, problems, drop=("judge",))
    problems.add("judge: should be the name of a judge block, or {judge: name, ...its options}", own.mark())
    return None


def _default(cls: Any, node: Node, problems: Problems) -> Any | None:
    missing = [name for name, info in cls.model_fields.items() if info.is_required()]
    if missing:
        problems.add(f"judge: {node.value} needs {', '.join(missing)}: write {{judge: {node.value}, ...}}", node.mark())
        return None
    return cls()


def _bound(model: Model, registry: Registry) -> Any | None:
    """The judge block behind `pocket/oracle` or `{judge: name}`, or the rubric that asks a judge model.

    Mistakes in it were noted when `models:` was read.
    """
    try:
        if model.judge is None:
            return registry.get("judge", MODEL_JUDGE)()
        return registry.get("judge", model.judge).model_validate(dict(model.options))
    except (UserError, ValueError):
        return None
