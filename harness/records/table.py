"""Tables of examples as Parquet, read and written in batches.

Every score and tag is a column of its own (`score.<name>`, `tag.<name>`), so that choosing among millions of rows reads
only what the choice needs. The nested parts are JSON text: they are carried, never searched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        for name, values in found.items():
            stored = part[_stored(name)]
            values += [stored.to_numpy()] if stored.type == "double" else _values(stored.to_pylist(), name)
    if "id" in found and "group" in found:  # a row that is alone in its group has its own id there, in memory once
        found["group"] = [i if i == g else g for i, g in zip(found["id"], found["group"], strict=True)]
    numbers = {name for name in names if schema([_stored(name)]).types[0] == "double"}
    return pd.DataFrame(
        {
            name: np.concatenate([*values, np.empty(0)]) if name in numbers else pd.Series(values, dtype=object)
            for name, values in found.items()
        }
    )


def _stored(name: str) -> str:
    if name in OF_MESSAGES:
        return "messages"
    if name.startswith(FIELD):
        return FIELDS
    return name if name in ("id", "group", "digest", "weight") else columns.stored(name)


def _values(stored: Sequence[Any], name: str) -> list[Any]:
    """A column as it is asked for, from the one that holds it."""
    if name.startswith(FIELD):
        return [json.loads(text).get(name.removeprefix(FIELD)) for text in stored]
    if name not in OF_MESSAGES:
        return list(stored)
    return [OF_MESSAGES[name](Example(id="", messages=tuple(json.loads(text)))) for text in stored]


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
        for batch in file.iter_batches(BATCH, columns=kept):
            yield from batch.to_pylist()
