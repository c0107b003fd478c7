"""Tables: what comes out is what went in, also where a column appears late; memory is that of a part."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.records import columns, table
from harness.records.columns import BATCH
from harness.records.example import Candidate, Dropped, Example, Message, Origin


def row(number: int, **more: object) -> Example:
    turns = (Message(role="user", content=f"say {number}"), Message(role="assistant", content=str(number)))
    return Example(id=f"r{number}", group=f"r{number}", messages=turns, **more)  # type: ignore[arg-type]


def test_every_part_of_an_example_lasts(tmp_path: Path) -> None:
    one = row(
        1,
        rejected="no",
        candidates=(Candidate(text="a", score=1.0), Candidate(text="b")),
        fields={"raw": {"deep": [1, None]}},
        loss_on="all",
        weight=0.5,
        scores={"ifd": 0.25, "none": None},
        tags={"kind": "x", "none": None},
        origin=Origin(block="b", parents=("p",), model="m", iteration=2),
    )
    assert table.write(tmp_path / "t", [one]) == 1
    assert list(table.read(tmp_path / "t")) == [one]
    assert table.write_dropped(tmp_path / "d", [Dropped(one, "short")]) == 1
    assert list(table.read_dropped(tmp_path / "d")) == [Dropped(one, "short")]


def test_a_column_may_come_late_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    late: dict[int, dict[str, Any]] = {BATCH + 5: {"scores": {"a": 1.0}}}
    late[2 * BATCH + 7] = {"tags": {"b": "x"}, "scores": {"c": 3.0}}
    total = 3 * BATCH

    def rows() -> Iterator[Example]:
        return (row(n, **late.get(n, {})) for n in range(total))

    assert table.write(tmp_path / "t.parquet", rows()) == total
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
    for number, found in enumerate(table.read(tmp_path / "t.parquet")):
        more = late.get(number, {})
        assert found.id == f"r{number}"
        assert {n: v for n, v in found.scores.items() if v is not None} == more.get("scores", {})
        assert {n: v for n, v in found.tags.items() if v is not None} == more.get("tags", {})
    groups = pq.ParquetFile(tmp_path / "t.parquet").metadata
    assert {groups.row_group(i).num_rows for i in range(groups.num_row_groups)} == {BATCH}


def test_an_empty_table_can_be_read(tmp_path: Path) -> None:
    assert table.write(tmp_path / "t", []) == 0
    assert list(table.read(tmp_path / "t")) == []
    assert len(table.frame(tmp_path / "t", ["id", "weight", "prompt"])) == 0


def test_a_frame_holds_the_columns_asked_for(tmp_path: Path) -> None:
    rows = [row(n, scores={"s": float(n) if n else None}, tags={"t": f"t{n}"}, fields={"f": [n]}) for n in range(3)]
    table.write(tmp_path / "t", rows)
    names = ["id", "group", "s", "tag:t", "field:f", "prompt", "answer", "weight", "digest"]
    found = table.frame(tmp_path / "t", names)
    assert list(found.columns) == names
    assert found["s"].tolist()[1:] == [1.0, 2.0]
    assert np.isnan(found["s"][0])
    assert found["tag:t"].tolist() == ["t0", "t1", "t2"]
    assert found["field:f"].tolist() == [[0], [1], [2]]
    assert (found["prompt"][2], found["answer"][2], found["digest"][2]) == ("say 2", "2", rows[2].digest)
    assert found["group"][1] is found["id"][1], "in memory once"
    assert table.frame_of(rows, names).equals(found)
    with pytest.raises(KeyError, match="the rows have no other; their scores are: s"):
        table.frame(tmp_path / "t", ["other"])


def test_tables_of_unlike_columns_are_one_stream(tmp_path: Path) -> None:
    table.write(tmp_path / "a", [row(1, scores={"x": 1.0})])
    table.write(tmp_path / "b", [row(2, scores={"y": 2.0}), row(3)])
    paths = [tmp_path / "a", tmp_path / "b"]
    of = columns.schema_of(paths)
    parts = list(columns.parts((part for path in paths for part in columns.read(path, of)), 2))
    assert [part["id"].to_pylist() for part in parts] == [["r1", "r2"], ["r3"]]
    assert parts[0]["score.x"].to_pylist() == [1.0, None]
    assert parts[0]["score.y"].to_pylist() == [None, 2.0]


def test_a_table_is_read_a_part_at_a_time(tmp_path: Path) -> None:
    """As are its rows: nothing is read ahead."""
    import pyarrow as pa

    rng = random.Random(0)
    of = pa.schema([("text", pa.string())])
    texts = ([rng.randbytes(500).hex() for _ in range(columns.BATCH)] for _ in range(30))
    columns.write(tmp_path / "rows.parquet", of, (pa.table({"text": part}, schema=of) for part in texts))
    whole = (tmp_path / "rows.parquet").stat().st_size
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in columns.read(tmp_path / "rows.parquet", of)]
    assert len(held) == 30
    assert max(held) < whole / 2
