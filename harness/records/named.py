"""Data files that options name (`DataFile`): found, downloaded where they are behind a URL, checked and read.

The identity of such a file is the SHA-256 of its unpacked content, so a file, its packed copy and the same file behind
a URL are the same data and give the same keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import datafile, downloads
from harness.records.hashing import file_sha256
from harness.records.values import DataFile

Row = dict[str, Any]


def digest(file: DataFile, option: str) -> str:
    """SHA-256 of the unpacked content.

    A file behind a URL that is not packed is known by its checksum alone: nothing is downloaded to plan with it.

    Raises:
        UserError: the file is missing, or has other content than its checksum says.
        Transient: it could not be downloaded.
    """
    if _behind_url(file):
        known = file.sha256_unpacked or (None if str(file.url).endswith(".gz") else file.sha256)
        if known is not None:
            return known.lower()
    path = local(file, option)
    found = datafile.checksum(str(path), None, option)
    _check(file, path, found, option)
    return found


def local(file: DataFile, option: str) -> Path:
    """The file on this disk, downloaded where it is behind a URL and not here yet.

    Raises:
        UserError: there is no such file, or the URL gave another one.
        Transient: it could not be downloaded.
    """
    if _behind_url(file) and file.sha256 is not None:
        return downloads.fetch(str(file.url), file.sha256)
    return datafile.locate(file.path or "", option)


def rows(file: DataFile, option: str) -> list[Row]:
    """The checked rows of a JSON list, JSON lines or CSV file, gzip or not.

    Raises:
        UserError: the file is missing, was changed, or is not of that form (with the line for JSON lines).
    """
    digest(file, option)
    return datafile.rows(str(local(file, option)), option)


def lines(file: DataFile, option: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1 on.

    Raises:
        UserError: the file is missing, was changed, or is no UTF-8 text.
    """
    digest(file, option)
    text = datafile.text_of(local(file, option))
    # Not splitlines(): U+2028 and its like are line breaks to Python, but may stand inside a JSON string.
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def place(file: DataFile) -> str:
    """Where the file is, as messages say it."""
    return file.path or file.url or file.name


def _behind_url(file: DataFile) -> bool:
    """True where the URL is what counts: there is no path, or nothing lies there."""
    return file.url is not None and (file.path is None or not Path(file.path).is_file())


def _check(file: DataFile, path: Path, found: str, option: str) -> None:
    good = file.sha256_unpacked is None or file.sha256_unpacked.lower() == found
    if file.sha256 is not None:
        good = good and file.sha256.lower() in (found, file_sha256(path))
    if not good:
        raise UserError(
            f"{path} (option `{option}`) has the SHA-256 {found}, but the configuration says "
            f"{file.sha256_unpacked or file.sha256}: it is another version of the data. Get the right file, or change "
            "the checksum if you mean this one"
        )
