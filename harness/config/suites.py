"""`suites:` of an experiment: what is measured, from `evalsuites/` files or inline mappings."""

from __future__ import annotations

from typing import Any

from harness.config.checks import path_fields
from harness.config.datafiles import datafile_fields, fill_block
from harness.config.document import Node, Problems, overlay, read
from harness.config.model import Model, Registry, SuiteRef
from harness.config.places import find, unknown
from harness.errors import UserError

MODEL_JUDGE = "rubric"
"""The judge block that asks a model, where a suite names no other."""
DEV = "dev"
"""The option of the suite blocks that can set a share of their items apart."""
_KEYS = ("suite", "name", "use", "description", "judge", DEV)


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
    block = fill_block(node, cls, problems, drop=own)
    if DEV in own and DEV in node.value:
        problems.add(_no_dev(name, block_name, block), node.mark(DEV))
    grader = _judge(node, judge, registry, problems) if "judge" in own else None
    if block is None:
        return None
    if judged and block.needs_judge() and grader is None:
        problems.add(f"the suite {name} needs a judge: bind the role `judge` under models", node.mark())
    if judged and grader is not None and grader.asks_model and (judge is None or judge.judge is not None):
        bound = "which is not bound" if judge is None else "which is bound to a programmatic judge"
        problems.add(
            f"the judge {grader.name} of the suite {name} asks the model of the role `judge`, {bound}: bind a model to "
            "it under models, or name another judge",
            node.mark("judge"),
        )
    written = {key: node.value[key] for key in path_fields(cls) | datafile_fields(cls) if key in node.value}
    return SuiteRef(
        name=name, block_name=block_name, block=block, judge=grader, path=node.doc.top.file, written=written
    )


def get_block(kind: str, name: str, node: Node, registry: Registry, problems: Problems) -> Any | None:
    """The class of a block, or None with the reason noted."""
    try:
        return registry.get(kind, name)
    except UserError as error:
        problems.add(str(error), node.mark())
        return None


def _no_dev(name: str, block_name: str, block: Any | None) -> str:
    splits = () if block is None else block.splits()
    own = "; it has a dev split of its own" if "dev" in splits else ""
    return (
        f"dev: the suite block {block_name} of {name} has no such option: it cannot set a share of its items apart{own}"
    )


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
        return None if cls is None else fill_block(own, cls, problems, drop=("judge",))
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
