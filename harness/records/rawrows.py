"""Data whose rows are no examples: rows of a file as they are (`format: rows`), and the files of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from harness.config.model import Dataset
from harness.errors import UserError
from harness.records import rowfiles
from harness.records.contents import content, files_of, local, place
from harness.records.example import Example, Origin


def examples(dataset: Dataset) -> Iterator[Example]:
    """The rows of a dataset of `format: rows`, each carried as the `fields` of an example without messages.

    Raises:
        UserError: a missing or changed file, one that cannot be read, or data without rows.
    """
    content(dataset)
    found = _files(dataset) if dataset.kind == "folder" else (row for _, row in rowfiles.read(local(dataset)))
    count = 0
    for count, row in enumerate(islice(found, dataset.rows), start=1):
        name = f"{dataset.name}/{count - 1}"
        yield Example(id=name, messages=(), group=name, fields=row, origin=Origin(block="source", model=dataset.name))
    if not count:
        raise UserError(f"the dataset {dataset.name} ({place(dataset)}) has no rows: nothing can be done with it")


def _files(dataset: Dataset) -> Iterator[dict[str, Any]]:
    folder = Path(dataset.path or "")
    for path in files_of(dataset):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{path} of the dataset {dataset.name} is no UTF-8 text ({error}): take it out, or say with "
                f"`files: '**/*.md'` which files count"
            ) from error
        yield {"path": path.relative_to(folder).as_posix(), "text": text}
