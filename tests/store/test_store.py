"""The store: whole or not at all, verified on read, damaged artifacts moved aside, leases that die with their owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness.errors import StageFailed, UserError
from harness.store import atomic, journal
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.store.journal import Journal
from harness.store.locks import Held, lease


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Home(tmp_path).prepare())


def _commit(store: Store, text: str = "data") -> Path:
    work = store.work("rows", "k")
    (work / "rows.parquet").write_text(text)
    (work / "scratch.txt").write_text("left over")
    store.commit("rows", "k", ("rows.parquet",), {"rows": 1})
    return store.path("rows", "k")


def test_an_artifact_is_done_only_after_its_manifest(store: Store) -> None:
    (store.work("rows", "k") / "rows.parquet").write_text("data")
    assert not store.done("rows", "k")
    folder = _commit(store)
    assert store.done("rows", "k")
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "rows.parquet"]
    assert not (folder.parent / "k.work").exists()


def test_a_flipped_byte_is_found_and_the_artifact_moved_aside(store: Store) -> None:
    folder = _commit(store)
    (folder / "rows.parquet").write_text("dAta")
    fresh = Store(store.home)
    with pytest.raises(StageFailed, match=r"is not what was written.*moved to .*invalid.*same command"):
        fresh.open("rows", "k")
    assert not fresh.done("rows", "k")
    assert list((store.home.path / "invalid").iterdir())


def test_a_truncated_manifest_is_a_named_error(store: Store) -> None:
    folder = _commit(store)
    (folder / "manifest.json").write_text('{"rows"')
    with pytest.raises(StageFailed, match="cannot be read"):
        Store(store.home).open("rows", "k")
    assert not store.done("rows", "k")


def test_a_torn_journal_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path, clock=lambda: 1.0) as log:
        log.write("a", n=1)
    with path.open("ab") as file:
        file.write(b'{"event": "torn", "ti')
    assert [e["event"] for e in journal.read(path)] == ["a"]
    with Journal(path, clock=lambda: 2.0) as log:
        log.write("b")
    assert [(e["event"], e["time"]) for e in journal.read(path)] == [("a", 1.0), ("b", 2.0)]


def test_a_full_disk_names_path_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"x\.json: 11 bytes could not be written \(No space left on device\)"):
        atomic.write_json(tmp_path / "x.json", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_home_is_one_paragraph(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*LOOPBENCH_HOME"):
        Home(blocked / "home").prepare()


def test_a_second_owner_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from harness.store.locks import lease
        with lease(Path({str(tmp_path)!r}), "x", "experiment x"):
            print("held", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(Held, match=f"experiment x is already being worked on by process {other.pid} on ") as refused,
            lease(tmp_path, "x", "experiment x"),
        ):
            pass
        assert refused.value.exit_code == 2
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    with lease(tmp_path, "x", "experiment x"):
        assert json.loads((tmp_path / "x.owner.json").read_text())["pid"] == os.getpid()
