"""Data files of suites and judges as they come: JSON, JSON lines, CSV (gzip or not) or Parquet, with a checksum.

A checksum is of the unpacked content, so a file and its packed copy are the same data and give the same keys.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError

Row = dict[str, Any]
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def locate(path: str, option: str) -> Path:
    """The file that an option names; `${NAME}` is taken from the environment.

    Raises:
        UserError: the variable is not set, or there is no such file.
    """
    found = _expanded(path, option)
    if not found.is_file():
        raise UserError(f"option `{option}` names {found}, which is not there: get the file, or change the path")
    return found


def locate_folder(path: str, option: str) -> Path:
    """The folder that an option names; `${NAME}` is taken from the environment.

    Raises:
        UserError: the variable is not set, or there is no such folder.
    """
    found = _expanded(path, option)
    if not found.is_dir():
        raise UserError(f"option `{option}` names the folder {found}, which is not there: make it, or change the path")
    return found


def _expanded(path: str, option: str) -> Path:
    unset = [name for name in _VARIABLE.findall(path) if not os.environ.get(name)]
    if unset:
        raise UserError(
            f"option `{option}` is {path}, but {unset[0]} is not set: `export {unset[0]}=FOLDER` with the folder that "
            "holds the data, or write the path itself"
        )
    return Path(_VARIABLE.sub(lambda match: os.environ[match[1]], path)).expanduser()


def content(path: Path) -> bytes:
    """The unpacked bytes of a file.

    Raises:
        UserError: the file cannot be read or is a broken gzip file.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def checksum(path: str, expected: str | None, option: str) -> str:
    """SHA-256 of the unpacked content, checked against the expected one where there is one.

    Raises:
        UserError: no such file, or other content than expected.
    """
    file = locate(path, option)
    found = _checksum(file, file.stat().st_mtime_ns, file.stat().st_size)
    if expected is not None and expected.lower() != found:
        raise UserError(
            f"{file} (option `{option}`) has the SHA-256 {found}, but the configuration says {expected}: it is another "
            "version of the data. Get the right file, or change the checksum if you mean this one"
        )
    return found


def rows(path: str, option: str) -> list[Row]:
    """The rows of a JSON list, JSON lines, CSV or Parquet file.

    Raises:
        UserError: the file is missing, or not of that form (with the line for JSON lines).
    """
    file = locate(path, option)
    suffixes = [s for s in file.suffixes if s != ".gz"]
    if suffixes and suffixes[-1] == ".parquet":
        return _parquet(file)
    text = text_of(file)
    if suffixes and suffixes[-1] == ".csv":
        return _csv(text, file)
    return _json_list(text, file) if text.lstrip()[:1] == "[" else _json_lines(text, file)


def text_of(file: Path) -> str:
    """The unpacked text of a file.

    Raises:
        UserError: it cannot be read, or is no UTF-8 text.
    """
    try:
        return content(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _csv(text: str, file: Path) -> list[Row]:
    """Rows by the names of the header; a text may be of any length, a row of no more cells than the header has."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    limit = csv.field_size_limit(max(len(text), 1))
    try:
        found = []
        for row in reader:
            if None in row:
                raise UserError(f"{file}:{reader.line_num}: more cells than the header has: put quotes around commas")
            found.append(dict(row))
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: not valid CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    return found


def _parquet(file: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: list[Row] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{file} cannot be read as Parquet: {error}") from error
    return found


@lru_cache(maxsize=64)
def _checksum(file: Path, changed: int, size: int) -> str:  # time and size: a changed file is read again
    return hashlib.sha256(content(file)).hexdigest()


def _json_list(text: str, file: Path) -> list[Row]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from error
    bad = next((i for i, row in enumerate(data) if not isinstance(row, dict)), None)
    if bad is not None:
        raise UserError(f"{file}: entry {bad} of the list is no mapping; a list of mappings is expected")
    return list(data)


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1 on.

    Not splitlines(): U+2028 and its like are line breaks to Python, but may stand inside a JSON string.
    """
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _json_lines(text: str, file: Path) -> list[Row]:
    found: list[Row] = []
    for number, line in numbered_lines(text):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{file}:{number}: not valid JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise UserError(f"{file}:{number}: a mapping is expected on each line")
        found.append(row)
    return found
