"""Reads a file of rows whole, with the line of every row, and notes all that is wrong with it.

JSON lines or a JSON list, packed with gzip or not. `harness.records.datafile` stops at the first mistake, which is
right for data that ships with a checksum; answers come from users' own scripts, so here everything is told at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Problem, UserError
from harness.records import datafile

SHOWN = 20
"""Mistakes that are named; the rest is counted."""


class BadOutputs(UserError):
    """All mistakes of the given files, found before anything is scored."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        files = list(dict.fromkeys(problem.file or str(problem) for problem in problems))
        place = {file: index for index, file in enumerate(files)}
        problems = sorted(problems, key=lambda problem: (place[problem.file or str(problem)], problem.line or 0))
        self.problems = tuple(problems)
        count = f"{len(problems):,} mistakes" if len(problems) != 1 else "1 mistake"
        more = f"\n  ... and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        super().__init__(f"{count}; nothing was scored.\n" + "\n".join(f"  {p}" for p in problems[:SHOWN]) + more)


@dataclass(frozen=True)
class Line:
    """A row and the line on which it begins (1-based)."""

    number: int
    row: dict[str, Any]


def read(path: Path, problems: list[Problem]) -> list[Line]:
    """The rows of a file; what cannot be read is noted in `problems` and left out."""
    try:
        text = datafile.content(path).decode("utf-8-sig")
    except UserError as error:
        problems.append(Problem(str(error)))
        return []
    except UnicodeDecodeError as error:
        problems.append(Problem(f"is no text in UTF-8 ({error.reason} at byte {error.start:,})", str(path)))
        return []
    if not text.strip():
        problems.append(Problem("is empty: there is nothing to score", str(path)))
        return []
    whole = text.lstrip()
    return _entries(text, path, problems) if whole.startswith("[") else _lines(text, path, problems)


def _lines(text: str, path: Path, problems: list[Problem]) -> list[Line]:
    found: list[Line] = []
    broken: list[Problem] = []
    for number, line in datafile.numbered_lines(text):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == 1 and _is_one_object(text):
                problems.append(
                    Problem("holds one JSON object: a list of them, or one per line, is expected", str(path))
                )
                return []
            broken.append(Problem(f"not valid JSON: {error.msg} (column {error.colno})", str(path), number))
            continue
        _keep(row, number, path, found, problems)
    # A file of another kind is one mistake, not one per line.
    alone = broken[1:] and not found
    problems += (
        [Problem("is neither JSON lines nor a JSON list: not one line of it is JSON", str(path))] if alone else broken
    )
    return found


def _entries(text: str, path: Path, problems: list[Problem]) -> list[Line]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        problems.append(Problem(f"not valid JSON: {error.msg} (column {error.colno})", str(path), error.lineno))
        return []
    if not rows:
        problems.append(Problem("is an empty list: there is nothing to score", str(path)))
    found: list[Line] = []
    for number, row in zip(_starts(text, len(rows)), rows, strict=True):
        _keep(row, number, path, found, problems)
    return found


def _starts(text: str, count: int) -> list[int]:
    """The line on which each entry of a valid JSON list begins."""
    decoder, place, seen, line = json.JSONDecoder(), text.index("[") + 1, 0, 1
    lines = []
    for _ in range(count):
        while text[place] in " \t\r\n,":
            place += 1
        line += text.count("\n", seen, place)
        seen = place
        lines.append(line)
        _, place = decoder.raw_decode(text, place)
    return lines


def _keep(row: Any, number: int, path: Path, found: list[Line], problems: list[Problem]) -> None:
    if isinstance(row, dict):
        found.append(Line(number, row))
    else:
        problems.append(Problem(f"a mapping is expected here, not {type(row).__name__}", str(path), number))


def _is_one_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False
