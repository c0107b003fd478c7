"""Passages of documents: what an index is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import UserError
from harness.records.example import Example


def passages(rows: Iterable[Any], column: str | None, words: int) -> list[str]:
    """The distinct passages of documents, in order: pieces of whole paragraphs of at most `words` words.

    A paragraph longer than that is cut between words. `rows`: mappings, whose `column` is the text (without it the only
    text column, or `text`), or examples, whose answer, or else whole text, is the document.

    Raises:
        UserError: a row without the column, or no text at all.
    """
    found = [piece for row in rows for piece in _pieces(_text(row, column), words)]
    if not found:
        raise UserError("the documents to look passages up in hold no text: bind a source with texts to that role")
    return list(dict.fromkeys(found))


def _text(row: Any, column: str | None) -> str:
    if isinstance(row, Example):
        if column is not None:
            return _cell(row.fields, column, row.id)
        return row.answer if row.answer is not None else "\n\n".join(m["content"] for m in row.messages)
    return _cell(row, column or "text", "a row")


def _cell(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise UserError(
            f"the documents to look passages up in: {where} has no text column {column!r} (it has "
            f"{', '.join(sorted(map(str, row))) or 'none'}): name the column with `column:`"
        )
    return value


def _pieces(text: str, words: int) -> list[str]:
    pieces: list[str] = []
    room = 0
    for paragraph in text.split("\n\n"):
        parts = paragraph.split()
        for start in range(0, len(parts), words):
            part = parts[start : start + words]
            if start == 0 and len(part) <= room:
                pieces[-1] += "\n\n" + " ".join(part)
                room -= len(part)
            else:
                pieces.append(" ".join(part))
                room = words - len(part)
    return pieces
