"""Finds blocks by kind and name, without importing those that are not named.

A built-in block is the file `<name>.py` in the package of its kind; the class in it that carries this `name` is the
block. Other packages join through the entry-point group `loopbench.blocks`, one entry per block, named
`<kind>.<name>`, for instance `select.my_selector = "my_package.my_module:MySelector"`. A name that both claim is
refused: a silent override would change what an old configuration means.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import get_args

from harness.blocks.base import Block, Kind
from harness.errors import UserError

PACKAGES: dict[Kind, str] = {
    "synthesize": "harness.synthesize",
    "score": "harness.select",
    "select": "harness.select",
    "pair": "harness.select",
    "finetune": "harness.finetune",
    "suite": "harness.evaluate",
    "judge": "harness.judges",
}
GROUP = "loopbench.blocks"


class UnknownBlock(UserError):
    """No block of this kind has this name; the message names the nearest."""


def get(kind: Kind, name: str) -> type[Block]:
    """The class of a block.

    Raises:
        UnknownBlock: nothing of this kind has the name.
        UserError: an installed package claims the name of a built-in block, or its entry does not load.
    """
    foreign = _foreign().get(f"{kind}.{name}")
    own = _own(kind, name)
    if own is not None and foreign is not None:
        raise UserError(f"the package entry {foreign.value} claims {kind} block {name!r}, which is built in: rename it")
    if own is not None:
        return own
    if foreign is not None:
        return _load(foreign, kind, name)
    raise UnknownBlock(unknown(kind, name))


def unknown(kind: Kind, name: str) -> str:
    """The sentence for a name that no block of this kind has."""
    near = difflib.get_close_matches(name, names(kind), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no {kind} block named {name!r}{hint} Known: {', '.join(names(kind))}."


def names(kind: Kind) -> list[str]:
    """Names of all blocks of a kind, sorted."""
    modules = pkgutil.iter_modules(importlib.import_module(PACKAGES[kind]).__path__)
    own = [m.name for m in modules if not m.name.startswith("_") and _own(kind, m.name) is not None]
    return sorted(own + [key.split(".", 1)[1] for key in _foreign() if key.startswith(f"{kind}.")])


def kinds() -> tuple[Kind, ...]:
    """All kinds of block."""
    return get_args(Kind)


@cache
def _own(kind: Kind, name: str) -> type[Block] | None:
    if not name.isidentifier() or name.startswith("_"):
        return None
    path = f"{PACKAGES[kind]}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name == path:
            return None
        raise
    for _, value in inspect.getmembers(module, inspect.isclass):
        if issubclass(value, Block) and value.__module__ == path and _named(value, kind, name):
            return value
    return None


def _named(block: type[Block], kind: Kind, name: str) -> bool:
    return getattr(block, "kind", None) == kind and getattr(block, "name", None) == name


@cache
def _foreign() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint, kind: Kind, name: str) -> type[Block]:
    try:
        block = entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{kind} block {name!r} of {entry.value} cannot be loaded: {error}") from error
    if not (inspect.isclass(block) and issubclass(block, Block) and _named(block, kind, name)):
        raise UserError(f"{entry.value} is registered as {kind} block {name!r}, but is no such block")
    if inspect.isabstract(block):
        lacks = ", ".join(sorted(block.__abstractmethods__))
        raise UserError(f"{kind} block {name!r} of {entry.value} cannot be used: it has no {lacks}")
    return block
