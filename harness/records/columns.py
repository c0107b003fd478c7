"""Tables of examples as columns: read, joined, extended and written a part at a time, without making examples.

A score is named plainly; other columns have a prefix: `tag:<name>`, `field:<name>` and `vector:<name>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.clock import each, timed

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 2048
"""Rows of a row group."""
TAG, FIELD, VECTOR = "tag:", "field:", "vector:"
"""Prefixes of columns that are no scores: texts, any JSON values, and float32 vectors."""
FIELDS = "fields"


def stored(name: str) -> str:
    """The name of the Parquet column that holds a score, tag or vector."""
    for prefix in (TAG, VECTOR):
        if name.startswith(prefix):
            return f"{prefix[:-1]}.{name.removeprefix(prefix)}"
    return f"score.{name}"


def is_vector(column: str) -> bool:
    """True for a Parquet column that holds vectors."""
    return column.startswith(f"{VECTOR[:-1]}.")


@timed("io")
def schema_of(paths: Iterable[Path]) -> pa.Schema:
    """The columns of several tables, in the order in which they first come."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = {field.name: field for path in reversed(list(paths)) for field in pq.read_schema(path)}
    order = dict.fromkeys(field.name for path in paths for field in pq.read_schema(path))
    return pa.schema([fields[name] for name in order])


def read(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """A table a part at a time, with the columns of `schema`; those that it lacks are missing in every row.

    Nothing is read ahead: that would hold the whole file in memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        have = set(file.schema_arrow.names)
        columns = [name for name in schema.names if name in have]
        for batch in each("io", file.iter_batches(BATCH, columns=columns)):
            part = pa.Table.from_batches([batch])
            yield pa.table(
                [part[f.name] if f.name in have else pa.nulls(len(part), f.type) for f in schema], schema=schema
            )


def parts(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size` rows, the last one shorter."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= size:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, size).combine_chunks()
            waiting = [joined.slice(size)]
    left = pa.concat_tables(waiting).combine_chunks() if waiting else ()
    if len(left):
        yield left


@timed("io")
def write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Writes tables of one schema; returns the number of rows."""
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts(each("other", tables), BATCH):
            writer.write_table(part, row_group_size=BATCH)
            count += len(part)
    return count


def extended(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """A schema with more columns; one that is there already is replaced at its place."""
    import pyarrow as pa

    fields = {field.name: field for field in schema}
    for name in names:
        if not name.startswith(FIELD):
            fields[stored(name)] = pa.field(stored(name), _type(name))
    return pa.schema(list(fields.values()))


def extend(part: pa.Table, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """A table with the columns that a scorer gave, one value per row."""
    schema = extended(part.schema, list(columns))
    arrays = {field.name: part[field.name] for field in part.schema}
    own = {name: list(values) for name, values in columns.items() if name.startswith(FIELD)}
    if own:
        arrays[FIELDS] = _fields(part[FIELDS].to_pylist(), own)
    for name, values in columns.items():
        if name not in own:
            arrays[stored(name)] = _array(name, values)
    import pyarrow as pa

    return pa.table([arrays[field.name] for field in schema], schema=schema)


def checked(name: str, values: Iterable[Any], rows: int) -> list[Any]:
    """A scorer's column as plain values, floats for scores.

    Raises:
        TypeError: a score that is no number, or a tag that is no text.
        ValueError: another number of values than rows.
    """
    found = list(values)
    if len(found) != rows:
        raise ValueError(f"the column {name} has {len(found)} values for {rows} rows")
    if name.startswith(TAG):
        wrong = next((value for value in found if not isinstance(value, str | None)), None)
        if wrong is not None:
            raise TypeError(f"{name} should be text or None, not {type(wrong).__name__}")
        return found
    if name.startswith((FIELD, VECTOR)):
        return found
    return [None if value is None else float(value) for value in found]


def _type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name.startswith(VECTOR):
        return pa.list_(pa.float32())
    return pa.string() if name.startswith(TAG) else pa.float64()


def _array(name: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, _type(name), from_pandas=False)


def _fields(texts: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> pa.Array:
    """The JSON column of original fields, with more of them."""
    import pyarrow as pa

    names = [name.removeprefix(FIELD) for name in columns]
    rows = zip(texts, zip(*columns.values(), strict=True), strict=True)
    return pa.array([compact({**json.loads(text), **dict(zip(names, own, strict=True))}) for text, own in rows])


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def compact(value: Any) -> str:
    """JSON text as the tables hold it."""
    return _ENCODER.encode(value) if value else "{}" if isinstance(value, Mapping) else "[]"
