"""Rows of a data file with the place of each, read as a stream where the form allows: JSON, JSON lines, CSV, Parquet.

JSON and CSV may be gzip files. A JSON list has to be read whole; the other forms hold one row or batch at a time.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.errors import UserError

Row = dict[str, Any]
Placed = tuple[str, Row]
"""A row with the words that find it again: `line 12` or `row 12` (both from 1 on)."""
BATCH = 4096


def read(path: Path) -> Iterator[Placed]:
    """Rows in the order of the file.

    Raises:
        UserError: the ending is unknown, or the content is not of that form (with the line where one is known).
    """
    reader = READERS.get(kind(path))
    if reader is None:
        raise UserError(f"{path}: the ending says what a data file is; known: {', '.join(sorted(READERS))} (and .gz)")
    return reader(path)


def kind(path: Path) -> str:
    """The ending that decides how a file is read, `.gz` left out."""
    endings = [ending for ending in path.suffixes if ending != ".gz"]
    return endings[-1] if endings else ""


def _json(path: Path) -> Iterator[Placed]:
    """A JSON list; a `.json` file with one mapping per line is read as lines."""
    with _text(path) as file:
        first = file.read(1)
        while first and first.isspace():
            first = file.read(1)
    return _json_list(path) if first == "[" else _json_lines(path)


def _json_list(path: Path) -> Iterator[Placed]:
    with _text(path) as file:
        try:
            rows = json.load(file)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", _mapping(row, path, f"row {number}")


def _json_lines(path: Path) -> Iterator[Placed]:
    with _text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: not valid JSON: {error.msg}") from error
            yield f"line {number}", _mapping(row, path, f"line {number}")


def _csv(path: Path) -> Iterator[Placed]:
    with _text(path) as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{path}:{reader.line_num}: this line has not as many columns as the first line")
                yield f"line {reader.line_num}", dict(row)
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error


def _parquet(path: Path) -> Iterator[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            number = 0
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a readable Parquet file: {error}") from error


READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _mapping(row: Any, path: Path, place: str) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{path}: {place} is no mapping of columns, but {type(row).__name__}")
    return row


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """The unpacked text. Lines end with a newline only: U+2028 and its like may stand inside a JSON string."""
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        opener: Any = gzip.open if packed else open
        with opener(path, "rt", encoding="utf-8-sig", newline="" if kind(path) == ".csv" else "\n") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
