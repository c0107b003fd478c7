"""Writes flat rows (column name to value) as a Parquet table, one row group in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from harness.clock import timed
from harness.records import columns
from harness.records.columns import BATCH

if TYPE_CHECKING:
    import pyarrow as pa

SCORE, TAG = "score.", "tag."
BASE = (
    "id", "digest", "group", "messages", "rejected", "candidates", "fields", "loss_on", "weight", "origin",
)  # fmt: skip
"""Columns that every table has, in their order."""
REASON = "reason"
_TEXT = {*BASE, REASON} - {"weight"}


def schema(names: Iterable[str]) -> pa.Schema:
    """The types of columns: texts, else numbers."""
    import pyarrow as pa

    return pa.schema([(n, pa.string() if n in _TEXT or n.startswith(TAG) else pa.float64()) for n in names])


class RowWriter:
    """A table that grows row by row. A column may come with any row: it is missing in those before.

    Rows from which on the table is wider begin another file; all are joined when the table is closed.
    """

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._path = path
        self._names: dict[str, None] = dict.fromkeys(BASE)
        self._waiting: list[Mapping[str, Any]] = []
        self._files: list[Path] = []
        self._writer: Any = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes one row."""
        self._waiting.append(row)
        if len(self._waiting) == BATCH:
            self._flush()

    def __enter__(self) -> Self:
        return self

    @timed("io")
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._flush()
            self._join()
        elif self._writer is not None:
            self._writer.close()

    @timed("io")
    def _flush(self) -> None:
        import pyarrow as pa

        wider = dict.fromkeys(name for row in self._waiting for name in row if name not in self._names)
        if self._writer is None or wider:
            self._open(wider)
        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=schema(self._names)))
        self.rows += len(self._waiting)
        self._waiting.clear()

    def _open(self, wider: Mapping[str, None]) -> None:
        import pyarrow.parquet as pq

        if self._writer is not None:
            self._writer.close()
        self._names |= wider
        self._files.append(self._path.with_name(f"{self._path.name}.{len(self._files)}"))
        self._writer = pq.ParquetWriter(self._files[-1], schema(self._names), compression="zstd")

    def _join(self) -> None:
        self._writer.close()
        whole, *rest = self._files
        if rest:
            of = schema(self._names)
            whole = self._path.with_name(f"{self._path.name}.whole")
            columns.write(whole, of, (part for file in self._files for part in columns.read(file, of)))
        os.replace(whole, self._path)
        for file in self._files:
            file.unlink(missing_ok=True)
