"""Answers and grades as Parquet: every answered item is kept, with its prompt, answer, score and judge text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

VALUE = "value."


def write_answers(path: Path, answers: Iterable[Any]) -> int:
    """Writes `harness.blocks.kinds.Answer` records; returns their number."""
    rows = [asdict(a) | {"data": _json(a.data), "outputs": list(a.outputs), "finish": list(a.finish)} for a in answers]
    return _write(path, rows, {"outputs": "list", "finish": "list", "prompt_tokens": "int", "completion_tokens": "int"})


def read_answers(path: Path) -> list[dict[str, Any]]:
    """Rows as mappings with the fields of `Answer`."""
    rows = _read(path)
    return [
        row | {"outputs": tuple(row["outputs"]), "finish": tuple(row["finish"]), "data": json.loads(row["data"])}
        for row in rows
    ]


def write_grades(path: Path, grades: Iterable[Any]) -> int:
    """Writes `harness.blocks.kinds.Grade` records; a missing value is null, never a number."""
    rows = []
    for grade in grades:
        row = asdict(grade)
        values = row.pop("values")
        rows.append(row | {"tags": _json(grade.tags)} | {VALUE + name: value for name, value in values.items()})
    kinds = {n: "float" for row in rows for n in row if n.startswith(VALUE)}
    return _write(path, rows, kinds | {"judged_tokens": "int"})


def grades_frame(path: Path, *, texts: bool = True) -> pd.DataFrame:
    """Grades as pandas: id, item, cluster, category, missing, judge, judge_text, judged_tokens, tags, `value.<metric>`.

    Without `texts` the judge's text and the tags are not read: statistics need neither, and they are most of the file.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if texts or name not in ("judge_text", "tags")]
        frame: pd.DataFrame = file.read(names, use_threads=False).to_pandas(use_threads=False)
    return frame


def read_grades(path: Path) -> list[dict[str, Any]]:
    """Rows as mappings with the fields of `Grade`."""
    rows = []
    for row in _read(path):
        values = {n.removeprefix(VALUE): row.pop(n) for n in list(row) if n.startswith(VALUE)}
        rows.append(row | {"values": values, "tags": json.loads(row["tags"])})
    return rows


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


def _write(path: Path, rows: list[dict[str, Any]], kinds: dict[str, str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"list": pa.list_(pa.string()), "int": pa.int64(), "float": pa.float64()}
    names = dict.fromkeys(n for row in rows for n in row)
    schema = pa.schema([(name, types[kinds[name]] if name in kinds else pa.string()) for name in names])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")
    return len(rows)


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
