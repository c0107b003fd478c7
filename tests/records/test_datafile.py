"""Data files as they come: packed or not, and every mistake with its place."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records import datafile


def test_packed_and_plain_files_have_the_same_checksum_and_rows(tmp_path: Path) -> None:
    text = '{"a": "x\u2028y"}\n\n{"a": "ü"}\n'
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text(text, encoding="utf-8")
    packed.write_bytes(gzip.compress(text.encode()))
    assert datafile.rows(str(plain), "path") == datafile.rows(str(packed), "path") == [{"a": "x\u2028y"}, {"a": "ü"}]
    assert datafile.checksum(str(plain), None, "path") == datafile.checksum(str(packed), None, "path")


def test_csv_and_json_lists(tmp_path: Path) -> None:
    table, listed = tmp_path / "t.csv", tmp_path / "l.json"
    table.write_text('a,b\n1,"x\ny"\n')
    listed.write_text('[{"a": 1}]')
    assert datafile.rows(str(table), "path") == [{"a": "1", "b": "x\ny"}]
    assert datafile.rows(str(listed), "path") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": }\n', r"x\.json:2: not valid JSON"),
        ('{"a": 1}\n[2]\n', r"x\.json:2: a mapping is expected"),
        ('[{"a": 1},\n 3 4]', r"x\.json:2: not valid JSON"),
        ('[{"a": 1}, 2]', "entry 1 of the list is no mapping"),
    ],
)
def test_mistakes_have_their_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        datafile.rows(str(file), "path")


def test_a_broken_gzip_file_and_a_missing_one(tmp_path: Path) -> None:
    file = tmp_path / "x.json.gz"
    file.write_bytes(gzip.compress(b"[]" * 100)[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        datafile.rows(str(file), "path")
    with pytest.raises(UserError, match="option `path` names .* not there"):
        datafile.rows(str(tmp_path / "none"), "path")


def test_a_changed_file_has_another_checksum(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[]")
    first = datafile.checksum(str(file), None, "path")
    file.write_text("[{}]")
    assert datafile.checksum(str(file), None, "path") != first
    with pytest.raises(UserError, match="another version of the data"):
        datafile.checksum(str(file), first, "path")
