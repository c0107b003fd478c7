"""Data files that options name: one identity however the file lies, downloads that are checked, changes found."""

from __future__ import annotations

import functools
import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.errors import Transient, UserError
from harness.records import named
from harness.records.values import DataFile

TEXT = b'{"a": 1}\n{"a": "x\xe2\x80\xa8y"}\n'
SUM = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(TEXT)
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_path_alone_will_do_and_packing_changes_nothing(file: Path) -> None:
    packed = file.with_name("rows.jsonl.gz")
    packed.write_bytes(gzip.compress(TEXT))
    for path in (file, packed):
        one = DataFile.model_validate(str(path))
        assert named.digest(one, "rows") == SUM
        assert named.rows(one, "rows") == [{"a": 1}, {"a": "x\u2028y"}]
        assert [number for number, _ in named.lines(one, "rows")] == [1, 2]
    for sums in (
        {"sha256": SUM.upper()},
        {"sha256_unpacked": SUM},
        {"sha256": hashlib.sha256(packed.read_bytes()).hexdigest()},
    ):
        assert named.digest(DataFile(path=str(packed), **sums), "rows") == SUM


def test_another_content_is_refused_whenever_it_is_read(file: Path) -> None:
    one = DataFile(path=str(file), sha256=SUM)
    assert named.digest(one, "rows") == SUM
    file.write_bytes(TEXT + b"{}\n")
    for read in (named.digest, named.rows, named.lines):
        with pytest.raises(UserError, match="another version of the data"):
            read(one, "rows")


def test_a_url_is_downloaded_once_and_checked(file: Path, server: str) -> None:
    one = DataFile(name="rows", url=f"{server}/rows.jsonl", sha256=SUM)
    assert named.digest(one, "rows") == SUM, "known by its checksum: a plan downloads nothing"
    assert not (file.parent / "home").exists()
    assert named.rows(one, "rows")[0] == {"a": 1}
    file.unlink()
    assert len(named.rows(one, "rows")) == 2
    wrong = DataFile(name="rows", url=f"{server}/other.jsonl", sha256=hashlib.sha256(b"").hexdigest())
    file.with_name("other.jsonl").write_bytes(b"other")
    with pytest.raises(UserError, match="another SHA-256"):
        named.rows(wrong, "rows")


def test_a_path_comes_before_the_url_where_it_is_there(file: Path, server: str) -> None:
    both = DataFile(name="rows", path=str(file), url=f"{server}/nowhere.jsonl", sha256=SUM)
    assert len(named.rows(both, "rows")) == 2
    gone = DataFile(name="rows", path=str(file) + ".gone", url=f"{server}/nowhere.jsonl", sha256=SUM)
    assert named.digest(gone, "rows") == SUM
    with pytest.raises(Transient, match="could not be downloaded"):
        named.rows(gone, "rows")


def test_what_is_not_enough_to_find_a_file() -> None:
    with pytest.raises(ValidationError, match="needs a path or a url"):
        DataFile(name="x")
    with pytest.raises(ValidationError, match="needs the sha256"):
        DataFile(url="http://127.0.0.1:9/x.jsonl")
    with pytest.raises(UserError, match="which is not there"):
        named.digest(DataFile(path="nowhere.jsonl"), "rows")


def test_records_show_the_name_and_no_folder(file: Path) -> None:
    shown: object = DataFile.model_validate(str(file)).model_dump(mode="json")
    assert shown == "rows.jsonl"
