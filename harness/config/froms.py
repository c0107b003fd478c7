"""Where the rows of a step come from: `from:`, and the second sources that a block's options name."""

from __future__ import annotations

import re
from typing import Any, Literal

from harness.config.checks import brief, nearest
from harness.config.document import Node, Problems
from harness.config.model import NAME, Source
from harness.config.scope import Scope
from harness.records.values import share

_SOURCE = re.compile(rf"({NAME})(?:@(\w+))?")
_WHEN: dict[str | None, Literal["same", "previous", "all"]] = {None: "same", "previous": "previous", "all": "all"}
_TURNS = {"first": "the first iteration only", "later": "later iterations only"}


def read_sources(node: Node, scope: Scope, problems: Problems) -> tuple[Source, ...] | None:
    """The rows that a step's `from:` names; None where it has none, mistakes noted."""
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
    if name in scope.trained:
        problems.add(
            f"from: {name!r} is a finetune, which gives a model; name the step whose rows it read", node.mark()
        )
        return False
    if name in scope.known or (when == "previous" and name in scope.all_names):
        return True
    if name in scope.all_names:
        problems.add(
            f"from: {name!r} is named by this step or a later one; a step reads earlier ones only", node.mark()
        )
    else:
        problems.add(f"from: there are no rows named {name!r}{nearest(name, {*scope.data, *scope.known})}", node.mark())
    return False


def check_source(option: str, name: str, node: Node, scope: Scope, problems: Problems) -> None:
    """Notes a second source that is neither data nor an earlier step's rows, or not made wherever this step runs."""
    if name in scope.data or name in scope.known - scope.trained:
        theirs = scope.only.get(name)
        if theirs is not None and theirs != node.value.get("only"):
            text = f"{option}: {name} is made in {_TURNS[theirs]}, and this step runs in others too"
            problems.add(f"{text}; write `only: {theirs}`", node.mark(option))
        return
    where = f"there are no rows named {name!r}: bind them under `data:`, or name an earlier step `as: {name}`"
    later = " (a later step has that name)" if name in scope.all_names else ""
    near = nearest(name, {*scope.data, *scope.known}).removeprefix(".")
    problems.add(f"{option}: {where}{later}{near}", node.mark(option))
