"""The steps of a recipe: one verb, one block with its options per iteration, where its rows come from."""

from __future__ import annotations

import re
from typing import Any, Literal

from harness.config.checks import brief, nearest
from harness.config.datafiles import fill_block
from harness.config.document import Document, Node, Problems, overlay
from harness.config.froms import check_source, read_sources
from harness.config.model import NAME, VERBS, Registry, Step
from harness.config.models import RESERVED, UNBOUND
from harness.config.scope import Scope
from harness.config.suites import get_block


def read_step(node: Node, scope: Scope, registry: Registry, problems: Problems, *, first: bool) -> Step | None:
    """One step, or None with its mistakes noted."""
    verb = _verb(node, problems)
    if verb is None:
        return None
    name, as_ = node.value[verb], node.value.get("as")
    before = len(problems)
    from_ = read_sources(node, scope, problems)
    if not isinstance(name, str):
        problems.add(f"{verb}: should be the name of a block, not {brief(name)}", node.mark(verb))
        return None
    cls = get_block(verb, name, node.child(verb), registry, problems)
    blocks = () if cls is None else _blocks(node, verb, cls, scope, problems)
    for role in dict.fromkeys((option, role) for block in blocks for option, role in block.roles().items()):
        _check_role(*role, node, scope, problems)
    for option, source in dict.fromkeys(pair for block in blocks for pair in block.sources().items()):
        check_source(option, source, node, scope, problems)
    if first and from_ is None and getattr(cls, "reads_rows", True) and cls is not None:
        if "pool" not in scope.data:
            problems.add("the first step reads `pool`, which the experiment does not bind under data", node.mark())
        elif "pool" in scope.raw:
            problems.add(
                "the first step reads `pool`, whose `format: rows` says that it holds no examples", node.mark()
            )
    only = _only(node, scope, problems)
    _remember(verb, as_, node, scope, problems)
    if len(problems) > before or not blocks:
        return None
    mark = node.mark()
    return Step(
        verb=verb, block_name=name, blocks=blocks, as_=as_, from_=from_, only=only, file=mark.file, line=mark.line
    )


def as_names(steps: Node) -> dict[str, int]:
    """Every `as` name of a recipe with the position of its step."""
    listed = enumerate(steps.value if isinstance(steps.value, list) else [])
    found = {step["as"]: i for i, step in reversed(list(listed)) if isinstance(step, dict) and _is_name(step.get("as"))}
    return dict(found)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None


def _verb(node: Node, problems: Problems) -> Any | None:
    value = node.value
    if not isinstance(value, dict):
        problems.add(f"a step should be a mapping such as `select: top`, not {brief(value)}", node.mark())
        return None
    verbs = [key for key in value if key in VERBS]
    if len(verbs) == 1:
        return verbs[0]
    if verbs:
        problems.add(f"a step has one verb; this one has {' and '.join(verbs)}", node.mark())
    else:
        first = next(iter(value), "")
        problems.add(f"a step needs a verb; {first!r} is none{nearest(str(first), VERBS)}", node.mark())
    return None


def _only(node: Node, scope: Scope, problems: Problems) -> Literal["first", "later"] | None:
    """`only: first` or `only: later`: in which iterations the step runs."""
    only: Literal["first", "later"] | None = node.value.get("only")
    if only not in (None, "first", "later"):
        text = f"only: should be first (iteration 1) or later (from iteration 2 on), not {brief(only)}"
        problems.add(text, node.mark("only"))
        return None
    if only == "later" and scope.iterations == 1:
        problems.add("only: later, but the loop has one iteration: the step would never run", node.mark("only"))
    return only


def _remember(verb: str, as_: Any, node: Node, scope: Scope, problems: Problems) -> None:
    if as_ is None:
        return
    if not _is_name(as_):
        problems.add(f"as: {brief(as_)} is no name; use letters, digits, - and _", node.mark("as"))
    elif as_ in scope.known:
        problems.add(f"as: {as_!r} is already the name of an earlier step; names are given once", node.mark("as"))
    elif as_ in scope.data or as_ in RESERVED or as_ in scope.models or as_ in scope.students:
        problems.add(f"as: {as_!r} already names a data source or a model role; choose another", node.mark("as"))
    else:
        scope.known.add(as_)
        if node.value.get("only") is not None:
            scope.only[as_] = str(node.value["only"])
        if verb == "finetune":
            scope.trained.add(as_)


# --- options ----------------------------------------------------------------------------------------------------------
def _blocks(node: Node, verb: str, cls: Any, scope: Scope, problems: Problems) -> tuple[Any, ...]:
    """One instance per iteration; a single one shared by all where nothing depends on the iteration."""
    drop = {verb, "as", "from", "only"}
    options = overlay(Document({}, node.mark()).root(), node, frozenset(drop))
    options.doc.top = node.mark()
    if verb == "finetune" and scope.train is not None:
        options = _with_train(options, node, cls, scope)
    varying = [key for key, child in options.items() if isinstance(child.value, dict) and "by_iteration" in child.value]
    enough = [_enough(options.child(key), key, scope.iterations, problems) for key in varying]
    if not all(enough):
        return ()
    if not varying:
        block = fill_block(options, cls, problems)
        return () if block is None else (block,) * scope.iterations
    blocks = [fill_block(_at(options, varying, i), cls, problems) for i in range(scope.iterations)]
    return () if any(block is None for block in blocks) else tuple(blocks)


def _at(options: Node, varying: list[str], index: int) -> Node:
    document = options.doc.copy()
    for key in varying:
        listed = options.child(key, "by_iteration", index)
        document.put((key,), listed.value, listed.mark())
    return document.root()


def _enough(node: Node, key: str, iterations: int, problems: Problems) -> bool:
    listed = node.value["by_iteration"]
    if len(node.value) > 1 or not isinstance(listed, list) or any(isinstance(v, dict | list) for v in listed):
        problems.add(f"{key}: should be {{by_iteration: [one plain value per iteration]}}", node.mark())
        return False
    if len(listed) < iterations:
        problems.add(
            f"{key}: by_iteration has {len(listed)} values, but the loop has {iterations} iterations", node.mark()
        )
        return False
    return True


def _with_train(options: Node, node: Node, cls: Any, scope: Scope) -> Node:
    """The experiment's training options under the step's own; where the step departs from them is remembered."""
    train = scope.train
    if train is None:
        return options
    fitting = overlay(Document({}, train.mark()).root(), train, frozenset(train.value.keys() - cls.model_fields.keys()))
    name = str(node.value.get("as") or node.value["finetune"])
    own = {k: v for k, v in options.value.items() if k in fitting.value and v != fitting.value[k]}
    if own:
        scope.overridden[name] = own
    merged = overlay(fitting, options)
    merged.doc.top = node.mark()
    return merged


def _check_role(option: str, role: str, node: Node, scope: Scope, problems: Problems) -> None:
    if scope.only.get(role) == "later" and role in scope.trained and node.value.get("only") != "later":
        text = f"{option}: {role} is trained in later iterations only, and this step runs in the first too"
        problems.add(f"{text}; write `only: later`", node.mark(option))
    if role in RESERVED or role in scope.trained or role in scope.students:
        return
    model = scope.models.get(role) or UNBOUND.get(role)
    if model is None:
        later = role in scope.all_names and role not in scope.known
        why = ", which is named by this step or a later one" if later else ""
        known = {*scope.models, *scope.trained, *RESERVED}
        problems.add(f"{option}: no model is bound to the role {role!r}{why}{nearest(role, known)}", node.mark(option))
    elif model.engine == "oracle":
        problems.add(f"{option}: {role!r} is bound to a programmatic judge, which writes no text", node.mark(option))
