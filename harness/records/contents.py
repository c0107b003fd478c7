"""Which data a dataset is: the identity of its content and options, and the file behind it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.config.model import Dataset, SuiteRef
from harness.errors import UserError
from harness.records import datafile, downloads, generated, taxonomy
from harness.records.hashing import canonical, file_sha256, sha256

READING = 1
"""Raised when the same file and options would give other examples than before."""


def fingerprint(dataset: Dataset) -> str:
    """The identity of what `load` gives: the content of the file (or the generated rows) and every option that counts.

    Raises:
        UserError: the file is missing, or not the one that its checksum names.
    """
    options = dataset.model_dump(mode="json", include={"name", "format", "rows", "require_answer", "columns", "part"})
    options["withhold"] = None if dataset.withhold is None else dataset.withhold.model_dump(mode="json")
    exclude = [fingerprint(o) if isinstance(o, Dataset) else _suite(o) for o in dataset.exclude]
    return sha256([READING, content(dataset), options, exclude])


def content(dataset: Dataset) -> str:
    """The SHA-256 of a file as named, or of the rows that the pocket generator gives.

    Raises:
        UserError: the file is missing, or not the one that its checksum names.
    """
    if dataset.kind == "pocket":
        return generated.digest(canonical(dict(dataset.options)))
    if dataset.kind == "folder":
        folder = Path(dataset.path or "")
        return sha256([[path.relative_to(folder).as_posix(), file_sha256(path)] for path in files_of(dataset)])
    if dataset.kind == "taxonomy":
        return taxonomy.content(dataset, None if dataset.url is not None else local(dataset))
    if dataset.url is not None and dataset.sha256 is not None:
        return dataset.sha256.lower()
    path = local(dataset)
    stat = path.stat()
    found = _file_hash(path, stat.st_mtime_ns, stat.st_size)
    if dataset.sha256 is not None and dataset.sha256.lower() != found:
        raise UserError(_changed(path, found, dataset.sha256, "sha256"))
    if dataset.sha256_unpacked is not None:
        unpacked = _unpacked_hash(path, stat.st_mtime_ns, stat.st_size)
        if dataset.sha256_unpacked.lower() != unpacked:
            raise UserError(_changed(path, unpacked, dataset.sha256_unpacked, "sha256_unpacked"))
    return found


def local(dataset: Dataset) -> Path:
    """The file of a dataset, downloaded where it is behind a URL.

    Raises:
        UserError: there is no such file.
    """
    if dataset.url is not None and dataset.sha256 is not None:
        return downloads.fetch(dataset.url, dataset.sha256)
    path = Path(dataset.path or "")
    if not (path.exists() if dataset.kind == "taxonomy" else path.is_file()):
        raise UserError(f"the dataset {dataset.name} names {path}, which is not there")
    return path


def files_of(dataset: Dataset) -> list[Path]:
    """The files of a folder that count, in the order of their paths; hidden ones never do.

    Raises:
        UserError: there is no such folder, or no file in it counts.
    """
    folder = Path(dataset.path or "")
    if not folder.is_dir():
        raise UserError(f"the dataset {dataset.name} names the folder {folder}, which is not there")
    found = [path for path in folder.glob(dataset.files) if path.is_file() and not _hidden(path.relative_to(folder))]
    if not found:
        raise UserError(f"the dataset {dataset.name} ({place(dataset)}) has no file like {dataset.files!r}")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def place(dataset: Dataset) -> str:
    """Where the rows come from, as messages say it."""
    return "generated" if dataset.kind == "pocket" else dataset.written or dataset.path or dataset.url or "?"


def _suite(suite: SuiteRef) -> list[Any]:
    """What decides which prompts a suite keeps out (its items), and what the dropped rows say (its name)."""
    return [suite.name, suite.block.identity_options(), suite.block.fingerprint("test")]


# --- hashes -----------------------------------------------------------------------------------------------------------
def _changed(path: Path, found: str, expected: str, key: str) -> str:
    return (
        f"{path} is not the file that was meant: its SHA-256 is {found}, but `{key}` says {expected.lower()}. "
        "Get the right file, or change the checksum if you mean this one"
    )


@lru_cache(maxsize=64)
def _file_hash(path: Path, changed: int, size: int) -> str:  # time and size: a changed file is read again
    return file_sha256(path)


@lru_cache(maxsize=64)
def _unpacked_hash(path: Path, changed: int, size: int) -> str:
    return hashlib.sha256(datafile.content(path)).hexdigest()
