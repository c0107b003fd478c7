"""Tables of examples as Parquet, read and written in batches.

Every score and tag is a column of its own (`score.<name>`, `tag.<name>`), so that choosing among millions of rows reads
only what the choice needs. The nested parts are JSON text: they are carried, never searched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.clock import each
from harness.records import columns
from harness.records.columns import BATCH, FIELD, FIELDS
from harness.records.example import Candidate, Dropped, Example, Origin, prompt_text, text_key
from harness.records.rowwriter import REASON, SCORE, TAG, RowWriter, schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


OF_MESSAGES: dict[str, Callable[[Example], Any]] = {
    "prompt": prompt_text,
    "answer": lambda row: row.answer,
    "prompt_key": lambda row: text_key(prompt_text(row)),
}
"""Columns of a frame that are made from the messages. `prompt_key`: 16 bytes, for comparing prompts without them."""


def write(path: Path, rows: Iterable[Example]) -> int:
    """Writes examples; returns their number. A score or tag may appear first in any row."""
    with RowWriter(path) as table:
        for row in rows:
            table.add(flat(row))
    return table.rows


def write_dropped(path: Path, rows: Iterable[Dropped]) -> int:
    """Writes dropped rows with their reasons; returns their number."""
    with RowWriter(path) as table:
        for row in rows:
            table.add(flat(row))
    return table.rows


def read(path: Path) -> Iterator[Example]:
    """Examples in the order of the file."""
    return (_example(row) for row in _read(path))


def read_dropped(path: Path) -> Iterator[Dropped]:
    """Dropped rows in the order of the file."""
    return (Dropped(_example(row), str(row["reason"])) for row in _read(path))


def frame(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Chosen columns as pandas: id, group, digest, weight, `OF_MESSAGES`, `tag:<name>`, `field:<name>`, else a score.

    Raises:
        KeyError: a score or tag that no row of the table has.
    """
    check_columns(path, names)
    return frame_of_parts(columns.read(path, stored_schema(names)), names)


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Checks that a table has the columns.

    Raises:
        KeyError: a score or tag that no row of the table has.
    """
    import pyarrow.parquet as pq

    have = pq.read_schema(path).names
    missing = [name for name in names if _stored(name) not in have]
    if missing:
        known = sorted(n.removeprefix(SCORE) for n in have if n.startswith(SCORE))
        raise KeyError(f"the rows have no {', '.join(missing)}; their scores are: {', '.join(known) or 'none'}")


def frame_of(rows: Iterable[Example], names: Sequence[str]) -> pd.DataFrame:
    """As `frame`, of examples that are here."""
    import pyarrow as pa

    return frame_of_parts([pa.Table.from_pylist([flat(row) for row in rows], schema=stored_schema(names))], names)


def stored_schema(names: Sequence[str]) -> pa.Schema:
    """The stored columns that hold the named ones."""
    return schema(dict.fromkeys(_stored(name) for name in names))


def examples(part: pa.Table) -> Iterator[Example]:
    """The examples of a table that is in memory."""
    kept = [name for name in part.column_names if not columns.is_vector(name)]
    return (_example(row) for row in part.select(kept).to_pylist())


def frame_of_parts(parts: Iterable[pa.Table], names: Sequence[str]) -> pd.DataFrame:
    """The columns of a table, made part by part, so that what is read for them is never there as a whole."""
    import numpy as np
    import pandas as pd

    found: dict[str, list[Any]] = {name: [] for name in names}
    for part in parts:
        for name, values in _values(part, list(found)).items():
            found[name] += values
    numbers = {name for name in names if schema([_stored(name)]).types[0] == "double"}
    whole = {}
    while found:  # each column's parts go once it is whole
        name, values = found.popitem()
        whole[name] = np.concatenate([*values, np.empty(0)]) if name in numbers else pd.Series(values, dtype=object)
    return pd.DataFrame({name: whole[name] for name in names}, copy=False)


def _stored(name: str) -> str:
    if name in OF_MESSAGES:
        return "messages"
    if name.startswith(FIELD):
        return FIELDS
    return name if name in ("id", "group", "digest", "weight") else columns.stored(name)


def _values(part: pa.Table, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns as they are asked for, from those that hold them; JSON is read once for all columns made from it."""
    made = any(name in OF_MESSAGES for name in names)
    rows = [Example(id="", messages=tuple(json.loads(text))) for text in part["messages"].to_pylist()] if made else []
    own = [json.loads(text) for text in part[FIELDS].to_pylist()] if any(n.startswith(FIELD) for n in names) else []
    found: dict[str, list[Any]] = {}
    for name in names:
        if name in OF_MESSAGES:
            found[name] = list(map(OF_MESSAGES[name], rows))
        elif name.startswith(FIELD):
            found[name] = [fields.get(name.removeprefix(FIELD)) for fields in own]
        else:
            stored = part[_stored(name)]
            found[name] = [stored.to_numpy()] if stored.type == "double" else stored.to_pylist()
    if "id" in found and "group" in found:  # a row that is alone in its group has its own id there, in memory once
        found["group"] = [i if i == g else g for i, g in zip(found["id"], found["group"], strict=True)]
    return found


def flat(row: Example | Dropped) -> dict[str, Any]:
    """The columns of a row, nested parts as JSON text; a dropped one with its reason."""
    if isinstance(row, Dropped):
        return flat(row.example) | {REASON: row.reason}
    found = {
        "id": row.id,
        "digest": row.digest,
        "group": row.group or row.id,
        "messages": columns.compact(row.messages),
        "rejected": row.rejected,
        "candidates": columns.compact([vars(c) for c in row.candidates]),
        "fields": columns.compact(dict(row.fields)),
        "loss_on": row.loss_on,
        "weight": float(row.weight),
        "origin": columns.compact(vars(row.origin)),
    }
    found |= {SCORE + name: value for name, value in row.scores.items()}
    return found | {TAG + name: value for name, value in row.tags.items()}


def unflat(row: Mapping[str, Any]) -> Example | Dropped:
    """The row of such columns, dropped where they have a reason."""
    plain = {name: value for name, value in row.items() if name != REASON}
    return Dropped(_example(plain), row[REASON]) if row.get(REASON) is not None else _example(plain)


def _example(row: dict[str, Any]) -> Example:
    origin = json.loads(row["origin"])
    return Example(
        id=row["id"],
        messages=tuple(json.loads(row["messages"])),
        group=row["group"],
        rejected=row["rejected"],
        candidates=tuple(Candidate(**c) for c in json.loads(row["candidates"])),
        fields=json.loads(row["fields"]),
        loss_on=row["loss_on"],
        weight=row["weight"],
        scores={n.removeprefix(SCORE): v for n, v in row.items() if n.startswith(SCORE)},
        tags={n.removeprefix(TAG): v for n, v in row.items() if n.startswith(TAG)},
        origin=Origin(**(origin | {"parents": tuple(origin["parents"])})),
    )


def _read(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        kept = [name for name in file.schema_arrow.names if not columns.is_vector(name)]
        for rows in each("io", (batch.to_pylist() for batch in file.iter_batches(BATCH, columns=kept))):
            yield from rows
