"""How `loopbench show NAME` prints what a thing is: its text, and a table of its options."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 120
"""Columns where the output goes to a file."""
READ = 100
"""Columns of running text at most."""


def choices(annotation: Any) -> list[str]:
    """The words that an option, or the members of its list, must be one of; none where other values are allowed too."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    parts = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    return choices(parts[0]) if len(parts) == 1 else []


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a docstring, each on one line; lists and indented lines stay as they are."""
    for block in inspect.cleandoc(text).split("\n\n"):
        lines = block.splitlines()
        kept = any(line.startswith((" ", "* ", "- ")) for line in lines)
        yield "\n".join(_items(lines)) if kept else " ".join(lines)


def _items(lines: list[str]) -> Iterator[str]:
    """List items with their continuation lines joined to them."""
    item = ""
    for line in lines:
        if item.startswith(("* ", "- ")) and line.startswith("  ") and line.strip():
            item += " " + line.strip()
            continue
        if item:
            yield item
        item = line
    yield item


def print_document(document: Mapping[str, Any]) -> None:
    """Every part of a document: files as they are, blocks with their options; a block's text stands once."""
    from rich.console import Console

    width = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    console = Console(width=max(80, width))
    seen: set[str] = set()
    for heading, thing in document.items():
        if heading == "name":
            continue
        console.print(f"[bold]{document['name']}[/bold] · {heading}", highlight=False)
        if "text" in thing:
            place = thing.get("file") or thing.get("folder")
            console.print(place, style="dim", markup=False, highlight=False, soft_wrap=True)
            console.print(thing["text"], markup=False, highlight=False, soft_wrap=True)  # it may be copied
            continue
        block = str(thing.get("block", heading))
        options = thing["options"]
        if block in seen:
            options = {name: about for name, about in options.items() if about.get("here") is not None}
            console.print(f"{block} again, explained above; set here:" if options else f"{block} again, as it is above")
        else:
            console.print(f"version {thing['version']}.", markup=False, highlight=False)
            for paragraph in paragraphs(thing["what"]):
                console.print(paragraph, width=min(READ, console.width), markup=False, highlight=False)
            console.print()
        seen.add(block)
        if options:
            console.print(_table(options))
        console.print()


def _table(options: Mapping[str, Mapping[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    here = any("here" in about for about in options.values())
    titles = [*(["here"] if here else []), "default", "unit", "what", "source"]
    titles = [title for title in titles if title in ("default", "what") or any(o.get(title) for o in options.values())]
    table = Table(box=None, pad_edge=False)
    table.add_column("option", no_wrap=True)
    for title in titles:
        widest = {"here": 18, "default": 18, "source": 26}.get(title)
        table.add_column(title, overflow="fold", max_width=widest, ratio=1 if title == "what" else None)
    for option, about in options.items():
        said = {**about, "default": _default(about), "what": _what(about)}
        table.add_row(option, *(Text(str(said.get(title) or "")) for title in titles))
    return table


def _default(about: Mapping[str, Any]) -> str:
    words: dict[Any, str] = {None: "none", True: "true", False: "false"}
    default = about["default"]
    return words.get(default, str(default)) if isinstance(default, bool | str | None) else f"{default:g}"


def _what(about: Mapping[str, Any]) -> str:
    one_of = ", ".join(about.get("choices") or ())
    said = str(about["what"] or "")
    return f"{said} One of: {one_of}." if one_of else said
