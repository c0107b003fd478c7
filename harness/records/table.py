"""Tables of examples as Parquet, read and written in batches.

Every score and tag is a column of its own (`score.<name>`, `tag.<name>`), so that choosing among millions of rows reads
only what the choice needs. The nested parts are JSON text: they are carried, never searched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.example import Candidate, Dropped, Example, Origin, prompt_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

BATCH = 2048
SCORE, TAG = "score.", "tag."
_TEXT = ("id", "digest", "group", "messages", "rejected", "candidates", "fields", "loss_on", "origin", "reason")


def write(path: Path, rows: Iterable[Example]) -> int:
    """Writes examples; returns their number. A score or tag may appear first in any row."""
    return _write(path, (_flat(row) for row in rows))


def write_dropped(path: Path, rows: Iterable[Dropped]) -> int:
    """Writes dropped rows with their reasons; returns their number."""
    return _write(path, (_flat(row.example) | {"reason": row.reason} for row in rows))


def read(path: Path) -> Iterator[Example]:
    """Examples in the order of the file."""
    return (_example(row) for row in _read(path))


def read_dropped(path: Path) -> Iterator[Dropped]:
    """Dropped rows in the order of the file."""
    return (Dropped(_example(row), str(row["reason"])) for row in _read(path))


def frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Chosen columns as pandas: id, group, digest, weight, prompt, answer, `tag:<name>`, else a score's name.

    Raises:
        KeyError: a score or tag that no row of the table has.
    """
    import pyarrow.parquet as pq

    stored = {name: _stored(name) for name in columns}
    have = set(pq.read_schema(path).names)
    missing = [name for name, source in stored.items() if source not in have]
    if missing:
        known = sorted(n.removeprefix(SCORE) for n in have if n.startswith(SCORE))
        raise KeyError(f"the rows have no {', '.join(missing)}; their scores are: {', '.join(known) or 'none'}")
    table: pd.DataFrame = pq.read_table(path, columns=sorted(set(stored.values()))).to_pandas()
    result = table.iloc[:, :0].copy()
    for name, source in stored.items():
        result[name] = _texts(table[source], name) if source == "messages" else table[source]
    return result


def _stored(name: str) -> str:
    if name in ("prompt", "answer"):
        return "messages"
    if name.startswith("tag:"):
        return TAG + name.removeprefix("tag:")
    return name if name in ("id", "group", "digest", "weight") else SCORE + name


def _texts(messages: pd.Series[Any], which: str) -> list[str | None]:
    rows = (Example(id="", messages=tuple(json.loads(text))) for text in messages)
    return [prompt_text(row) if which == "prompt" else row.answer for row in rows]


def _flat(row: Example) -> dict[str, Any]:
    flat = {
        "id": row.id,
        "digest": row.digest,
        "group": row.group or row.id,
        "messages": _json(row.messages),
        "rejected": row.rejected,
        "candidates": _json([asdict(c) for c in row.candidates]),
        "fields": _json(dict(row.fields)),
        "loss_on": row.loss_on,
        "weight": float(row.weight),
        "origin": _json(asdict(row.origin)),
    }
    flat |= {SCORE + name: value for name, value in row.scores.items()}
    return flat | {TAG + name: value for name, value in row.tags.items()}


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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _schema(names: Iterable[str]) -> pa.Schema:
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        return pa.string() if name in _TEXT or name.startswith(TAG) else pa.float64()

    return pa.schema([(name, kind(name)) for name in names])


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Columns are those of the first batch; a later batch with a new one makes the file be written again, widened."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = iter(rows)
    batch = list(islice(stream, BATCH))
    names = list(dict.fromkeys(_flat(Example(id="", messages=())) | {n: None for row in batch for n in row}))
    schema, count = _schema(names), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch:
            new = {n for row in batch for n in row} - set(names)
            if new:
                break
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
            batch = list(islice(stream, BATCH))
    if batch:
        done = list(_read(path))
        return _write_all(path, [*done, *batch, *stream])
    return count


def _write_all(path: Path, rows: list[dict[str, Any]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(dict.fromkeys(n for row in rows for n in row))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd", row_group_size=BATCH)
    return len(rows)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield from batch.to_pylist()
