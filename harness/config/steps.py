"""The steps of a recipe: one verb, one block with its options per iteration, where its rows come from."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.checks import brief, nearest
from harness.config.datafiles import fill_block
from harness.config.document import Document, Node, Problems, overlay
from harness.config.model import NAME, VERBS, Model, Registry, Source, Step
from harness.config.models import RESERVED
from harness.config.suites import get_block
from harness.records.values import share

_SOURCE = re.compile(rf"({NAME})(?:@(\w+))?")
_TURNS = {"first": "the first iteration only", "later": "later iterations only"}
_WHEN: dict[str | None, Literal["same", "previous", "all"]] = {None: "same", "previous": "previous", "all": "all"}


@dataclass
class Scope:
    """What the steps of one recipe may refer to. `later` are `as` names of the whole recipe, `known` those so far."""

    data: Collection[str]
    raw: Collection[str]
    """Those of `data` whose rows are no examples: only a block that asks for them by a role reads them."""
    models: Mapping[str, Model]
    students: Collection[str]
    train: Node | None
    iterations: int
    all_names: dict[str, int]
    known: set[str] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    """`as` names of finetune steps so far: their models can be used as roles."""
    only: dict[str, str] = field(default_factory=dict)
    """`as` names of steps that do not run in each iteration: `first` or `later`."""
    overridden: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_step(node: Node, scope: Scope, registry: Registry, problems: Problems, *, first: bool) -> Step | None:
    """One step, or None with its mistakes noted."""
    verb = _verb(node, problems)
    if verb is None:
        return None
    name, as_ = node.value[verb], node.value.get("as")
    before = len(problems)
    from_ = _sources(node, scope, problems)
    if not isinstance(name, str):
        problems.add(f"{verb}: should be the name of a block, not {brief(name)}", node.mark(verb))
        return None
    cls = get_block(verb, name, node.child(verb), registry, problems)
    blocks = () if cls is None else _blocks(node, verb, cls, scope, problems)
    for role in dict.fromkeys((option, role) for block in blocks for option, role in block.roles().items()):
        _check_role(*role, node, scope, problems)
    for option, source in dict.fromkeys(pair for block in blocks for pair in block.sources().items()):
        _check_source(option, source, node, scope, problems)
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


# --- rows -------------------------------------------------------------------------------------------------------------
def _sources(node: Node, scope: Scope, problems: Problems) -> tuple[Source, ...] | None:
    given = node.get("from")
    if given is None:
        return None
    value = given.value
    if isinstance(value, str):
        named: list[tuple[Any, Node, Any]] = [(value, given, None)]
    elif isinstance(value, list) and value:
        named = [(child.value, child, None) for child in given.values()]
    elif isinstance(value, dict) and value:
        named = [(key, child, child.value) for key, child in given.items()]
    else:
        problems.add("from: should be a name, a list of names or a mix {name: share}", given.mark())
        return ()
    sources = [_source(name, child, part, scope, problems) for name, child, part in named]
    found = [source for source in sources if source is not None]
    if len({(s.name, s.when) for s in found}) < len(found):
        problems.add("from: names the same rows twice", given.mark())
    for source in found:
        theirs = scope.only.get(source.name, "")
        if source.when == "same" and theirs in _TURNS and theirs != node.value.get("only"):
            text = f"from: {source.name} is made in {_TURNS[theirs]}, and this step runs in others too"
            problems.add(
                f"{text}; write {source.name}@all or {source.name}@previous, or `only: {theirs}`", given.mark()
            )
    return tuple(found)


def _source(text: Any, node: Node, part: Any, scope: Scope, problems: Problems) -> Source | None:
    match = _SOURCE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        problems.add(f"from: {brief(text)} is no name; write name, name@previous or name@all", node.mark())
        return None
    name, when = match[1], match[2]
    if when not in _WHEN:
        problems.add(
            f"from: {name}@{when}: after @ stands previous or all{nearest(when, ('previous', 'all'))}", node.mark()
        )
        return None
    if not _check_name(name, when, node, scope, problems):
        return None
    try:
        portion = None if part is None else share(part)
    except ValueError as error:
        problems.add(f"from: {name}: {error}", node.mark())
        return None
    return Source(name=name, when=_WHEN[when], share=portion)


def _check_name(name: str, when: str | None, node: Node, scope: Scope, problems: Problems) -> bool:
    if name in scope.raw:
        text = f"from: {name} holds rows of a file as they are (`format: rows`), and steps read examples"
        problems.add(f"{text}; a block that reads such rows has an option for their name", node.mark())
        return False
    if name in scope.data:
        if when is not None:
            problems.add(f"from: {name} is a data source, which has no earlier iterations; only steps do", node.mark())
        return when is None
    if name in scope.known or (when == "previous" and name in scope.all_names):
        return True
    if name in scope.all_names:
        problems.add(
            f"from: {name!r} is named by this step or a later one; a step reads earlier ones only", node.mark()
        )
    else:
        problems.add(f"from: there are no rows named {name!r}{nearest(name, {*scope.data, *scope.known})}", node.mark())
    return False


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


def _check_source(option: str, name: str, node: Node, scope: Scope, problems: Problems) -> None:
    if name in scope.data or name in scope.known:
        return
    where = f"there are no rows named {name!r}: bind them under `data:`, or name an earlier step `as: {name}`"
    later = " (a later step has that name)" if name in scope.all_names else ""
    near = nearest(name, {*scope.data, *scope.known}).removeprefix(".")
    problems.add(f"{option}: {where}{later}{near}", node.mark(option))


def _check_role(option: str, role: str, node: Node, scope: Scope, problems: Problems) -> None:
    if role in RESERVED or role in scope.trained or role in scope.students:
        return
    model = scope.models.get(role)
    if model is None:
        later = role in scope.all_names and role not in scope.known
        why = ", which is named by this step or a later one" if later else ""
        known = {*scope.models, *scope.trained, *RESERVED}
        problems.add(f"{option}: no model is bound to the role {role!r}{why}{nearest(role, known)}", node.mark(option))
    elif model.engine == "oracle":
        problems.add(f"{option}: {role!r} is bound to a programmatic judge, which writes no text", node.mark(option))
