"""Rows that flow into a stage: whole tables, random shares, disjoint slices, concatenated in the order named.

They are read as examples, as chosen columns, as tables a part at a time, or as the vectors that some scorer left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.loop.stage import Input
from harness.records import columns, table
from harness.records.example import Example
from harness.store.artifacts import Store

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

ROWS = "rows.parquet"
DROPPED = "dropped.parquet"


def load(store: Store, inputs: Sequence[Input]) -> Iterator[Example]:
    """Examples of all inputs, in order, one batch in memory at a time."""
    for source in inputs:
        path = _path(store, source)
        chosen = _chosen(path, source)
        for index, row in enumerate(table.read(path)):
            if chosen is None or index in chosen:
                yield row


@dataclass(frozen=True)
class Rows(Iterable[Any]):
    """Rows that a block reads besides its inputs, from their tables at each pass: examples, or mappings of a file."""

    store: Store
    inputs: Sequence[Input]

    def __iter__(self) -> Iterator[Any]:
        for source in self.inputs:
            for row in load(self.store, [source]):
                yield dict(row.fields) if source.raw else row


def schema(store: Store, inputs: Sequence[Input]) -> pa.Schema:
    """The columns of all inputs together."""
    return columns.schema_of([_path(store, source) for source in inputs])


def count(store: Store, inputs: Sequence[Input]) -> int:
    """How many rows `load` gives."""
    import pyarrow.parquet as pq

    total = 0
    for source in inputs:
        path = _path(store, source)
        chosen = _chosen(path, source)
        total += pq.read_metadata(path).num_rows if chosen is None else len(chosen)
    return total


def tables(store: Store, inputs: Sequence[Input], of: pa.Schema) -> Iterator[pa.Table]:
    """The same rows as `load`, with the columns of a schema, one part in memory at a time."""
    import pyarrow as pa

    for source in inputs:
        path = _path(store, source)
        chosen = _chosen(path, source)
        start = 0
        for part in columns.read(path, of):
            here = range(start, start + len(part))
            start = here.stop
            if chosen is not None:
                part = part.take(pa.array([i - here.start for i in here if i in chosen], pa.int64()))
            yield part


def vectors(store: Store, inputs: Sequence[Input], name: str, file: Path) -> np.ndarray:
    """The vectors of all rows, float32, shape (rows, width); a row that has none is NaN.

    They are written to `file` part by part and mapped from there, so what is not touched takes no memory.

    Raises:
        UserError: no row has such a vector, or they are of unlike widths.
    """
    import numpy as np
    import pyarrow as pa

    column = columns.stored(name)
    if column not in schema(store, inputs).names:
        raise UserError(f"the rows have no {name}. Put the step that makes it (`score: embed`) before this one")
    of = pa.schema([pa.field(column, pa.list_(pa.float32()))])
    rows, width = 0, 0
    with file.open("wb") as out:
        for chunk in (chunk for part in tables(store, inputs, of) for chunk in part[column].chunks):
            given = chunk.drop_null()
            widths = set(np.diff(np.asarray(given.offsets)).tolist()) | ({width} if width else set())
            if len(widths) > 1:
                raise UserError(f"the vectors {name} are of unlike widths ({sorted(widths)}): rows of unlike models?")
            if widths and not width:
                width = widths.pop()
                missing = np.full(width, np.nan, np.float32).tobytes()
                out.writelines(missing for _ in range(rows))
            if width:
                values = np.full((len(chunk), width), np.nan, np.float32)
                values[np.asarray(chunk.is_valid())] = np.asarray(given.flatten()).reshape(len(given), width)
                out.write(values.tobytes())
            rows += len(chunk)
    if not width:
        raise UserError(f"no row has a vector {name}: every one of them is missing")
    return np.memmap(file, np.float32, "c", shape=(rows, width))


def load_frame(store: Store, inputs: Sequence[Input], names: Sequence[str]) -> pd.DataFrame:
    """The same rows as `load`, chosen columns only.

    Raises:
        UserError: a column that the rows do not have, such as a score that no step before gave.
    """
    return table.frame_of_parts(_stored(store, inputs, names), names)


def frames(store: Store, inputs: Sequence[Input], names: Sequence[str], size: int) -> Iterator[pd.DataFrame]:
    """As `load_frame`, in frames of `size` rows.

    Raises:
        UserError: as there.
    """
    return (table.frame_of_parts([part], names) for part in columns.parts(_stored(store, inputs, names), size))


def _stored(store: Store, inputs: Sequence[Input], names: Sequence[str]) -> Iterator[pa.Table]:
    for source in inputs:
        try:
            table.check_columns(_path(store, source), names)
        except KeyError as error:
            raise UserError(f"{error.args[0]}. Put the step that scores it before this one") from error
    return tables(store, inputs, table.stored_schema(names))


def _path(store: Store, source: Input) -> Path:
    return store.open(source.kind, source.key) / ROWS


def _chosen(path: Path, source: Input) -> set[int] | None:
    """Row numbers that a share or slice takes, by the hash of seed and row id: file order does not matter."""
    if source.share is None and source.slice is None:
        return None
    ids = table.frame(path, ["id"])["id"].tolist()
    order = sorted(
        range(len(ids)), key=lambda i: hashlib.sha256(f"{source.seed}/{source.key}/{ids[i]}".encode()).digest()
    )
    if source.slice is not None:
        index, of = source.slice
        order = order[index * len(order) // of : (index + 1) * len(order) // of]
    if source.share is not None:
        order = order[: round(source.share * len(order))]
    return set(order)
