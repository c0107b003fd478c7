"""Rows that are generated instead of read. The pocket world is found by name: nothing else imports that package."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from harness.errors import UserError
from harness.records import formats
from harness.records.example import Example, Origin
from harness.records.hashing import sha256


def examples(options: Mapping[str, Any]) -> Iterator[Example]:
    """The pocket pool with these options (`rows`, `seed`, `defects`, ...): ids, groups and tags are the generator's.

    Raises:
        UserError: the generator does not take the options.
    """
    for row in _rows(options):
        example = formats.convert(row, "messages", str(row["id"]))
        yield Example(
            id=example.id,
            messages=example.messages,
            group=str(row.get("group") or row["id"]),
            tags=example.tags,
            origin=Origin(block="source", model="pocket"),
        )


@lru_cache(maxsize=16)
def digest(options: str) -> str:
    """The hash of the very rows (options as canonical JSON): a changed generator is another pool, whatever they are."""
    return sha256(list(_rows(json.loads(options))))


def _rows(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rows = importlib.import_module("harness.pocket.pool").rows
    given = dict(options)
    try:
        yield from rows(given.pop("rows"), given.pop("seed", 0), **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"the pocket pool with the options {options} cannot be generated: {error}") from error
