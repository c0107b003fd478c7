"""Answers and grades as Parquet: every answered item is kept, with its prompt, answer, score and judge text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.clock import timed

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

VALUE = "value."
_TEXTS = ("id", "item", "cluster", "category", "missing", "judge", "judge_text")
REPEATS = "repeats."
_UNUSED = ("judge", "judge_text", "judged_tokens")
"""Columns that statistics do not need."""


@timed("io")
def write_answers(path: Path, answers: Iterable[Any]) -> int:
    """Writes `harness.blocks.kinds.Answer` records; returns their number."""
    rows = [asdict(a) | {"data": _json(a.data), "outputs": list(a.outputs), "finish": list(a.finish)} for a in answers]
    return _write(path, rows, {"outputs": "list", "finish": "list", "prompt_tokens": "int", "completion_tokens": "int"})


@timed("io")
def read_answers(path: Path) -> list[dict[str, Any]]:
    """Rows as mappings with the fields of `Answer`."""
    rows = _read(path)
    return [
        row | {"outputs": tuple(row["outputs"]), "finish": tuple(row["finish"]), "data": json.loads(row["data"])}
        for row in rows
    ]


@timed("io")
def write_grades(path: Path, grades: Iterable[Any]) -> int:
    """Writes `harness.blocks.kinds.Grade` records; a missing value is null, never a number.

    Column by column: turning each record into a mapping first takes ten times as long.
    """
    rows = list(grades)
    values = dict.fromkeys(name for grade in rows for name in grade.values)
    repeats = dict.fromkeys(name for grade in rows for name in grade.repeats)
    columns: dict[str, tuple[list[Any], str]] = {name: (list(map(attrgetter(name), rows)), "text") for name in _TEXTS}
    columns["judged_tokens"] = [grade.judged_tokens for grade in rows], "int"
    columns["tags"] = [_json(grade.tags) if grade.tags else "{}" for grade in rows], "text"
    for name in values:
        columns[VALUE + name] = [grade.values.get(name) for grade in rows], "float"
    for name in repeats:
        columns[REPEATS + name] = [list(grade.repeats.get(name, ())) or None for grade in rows], "floats"
    return _write_columns(path, columns)


@timed("io")
def grades_frame(path: Path, *, texts: bool = True) -> pd.DataFrame:
    """Grades as pandas: id, item, cluster, category, missing, judge, judge_text, judged_tokens, tags, `value.<metric>`.

    Where answers were judged several times there is also `repeats.<metric>`: per row an array of what each repeat gave,
    NaN or None where one could not be read. Without `texts` there is a column `flag` (empty where an answer has none)
    instead of what the judge is and said and of the tags: statistics need no more, and these are most of the file.
    """
    import pandas as pd

    if not texts:
        return pd.DataFrame(grades_columns(path))
    frame: pd.DataFrame = _table(path, texts=True).to_pandas(use_threads=False)
    return frame


@timed("io")
def grades_columns(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The columns of `grades_frame` without texts, as arrays: a frame for each of hundreds of tables takes a second."""
    import numpy as np

    table = _table(path, texts=False)
    columns = {n: table[n].to_numpy(zero_copy_only=False) for n in table.column_names if n != "tags"}
    return columns | {"flag": np.array(_flags(table["tags"]), dtype=object)}


def _table(path: Path, *, texts: bool) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if texts or name not in _UNUSED]
        return file.read(names, use_threads=False)


def _flags(tags: Any) -> list[str]:
    """The tag `flag` of each row; only rows that have one are read as JSON."""
    import pyarrow.compute as pc

    marked = pc.match_substring(tags, '"flag":')
    if not pc.any(marked).as_py():
        return [""] * len(tags)
    pairs = zip(tags.to_pylist(), marked.to_pylist(), strict=True)
    return [str(json.loads(text).get("flag", "")) if found else "" for text, found in pairs]


@timed("io")
def read_grades(path: Path) -> list[dict[str, Any]]:
    """Rows as mappings with the fields of `Grade`."""
    rows = []
    for row in _read(path):
        values = {n.removeprefix(VALUE): row.pop(n) for n in list(row) if n.startswith(VALUE)}
        repeats = {n.removeprefix(REPEATS): tuple(row.pop(n) or ()) for n in list(row) if n.startswith(REPEATS)}
        given = {name: each for name, each in repeats.items() if each}
        rows.append(row | {"values": values, "tags": json.loads(row["tags"]), "repeats": given})
    return rows


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


def _types() -> dict[str, Any]:
    import pyarrow as pa

    return {
        "list": pa.list_(pa.string()),
        "int": pa.int64(),
        "float": pa.float64(),
        "floats": pa.list_(pa.float64()),
        "text": pa.string(),
    }


def _write_columns(path: Path, columns: Mapping[str, tuple[list[Any], str]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = _types()
    table = pa.table({name: _array(values, types[kind]) for name, (values, kind) in columns.items()})
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


def _array(values: list[Any], kind: Any) -> Any:
    """The values as Arrow; a column of one text alone (the judge's name, say) is not looked at row by row."""
    import pyarrow as pa

    first = values[0] if values else None
    if values and isinstance(first, str | None) and values.count(first) == len(values):
        return pa.nulls(len(values), kind) if first is None else pa.repeat(pa.scalar(first, kind), len(values))
    return pa.array(values, kind)


def _write(path: Path, rows: list[dict[str, Any]], kinds: dict[str, str]) -> int:
    names = dict.fromkeys(n for row in rows for n in row)
    return _write_columns(path, {name: ([row.get(name) for row in rows], kinds.get(name, "text")) for name in names})


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
