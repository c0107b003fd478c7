"""`loopbench score`: exit codes, JSON, the file of items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of pairs and answers to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    rows = [{"instruction": f"task {i}", "output": f"reference {i}", "dataset": "ab"[i % 2]} for i in range(6)]
    Path("reference.json").write_text(json.dumps(rows))
    Path("pairs.yaml").write_text("suite: pairwise\npath: reference.json\norders: one\n")
    Path("mine.jsonl").write_text("".join(json.dumps({"id": i, "output": f"reference {i}"}) + "\n" for i in range(5)))
    return tmp_path


def run(*arguments: str) -> tuple[int, Result]:
    said = CliRunner().invoke(main, ["score", *arguments], standalone_mode=False)
    return said.return_value, said


def test_json_is_one_document_with_versions_intervals_and_the_missing(folder: Path) -> None:
    code, said = run("pairs.yaml", "--outputs", "mine.jsonl", "--judge", "stand_in", "--json")
    assert code in (0, None), said.output
    document: dict[str, Any] = json.loads(said.stdout)
    assert document["suite"]["version"] >= 1
    assert len(document["suite"]["fingerprint"]) == 64
    assert {"loopbench", "alpaca-eval"} <= document["versions"].keys()
    (source,) = document["sources"]
    win = source["figures"][0]
    assert (win["name"], win["value"], win["n"], win["missing"]) == ("win", 0.5, 6, 1)
    assert win["low"] < 0.5 < win["high"]
    assert source["sha256"] is not None
    assert all({"low", "high", "n", "missing"} <= figure.keys() for figure in source["figures"])


def test_every_number_that_is_printed_has_its_interval_or_the_reason_why_not(folder: Path) -> None:
    _, said = run("pairs.yaml", "--outputs", "mine.jsonl", "--judge", "stand_in")
    lines = said.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("figure"))
    for line in lines[start + 1 : lines.index("counts", start) if "counts" in lines else start + 3]:
        assert "[" in line or "none: " in line
    assert "1 no answer: not in the file of outputs" in said.stdout


def test_items_are_written_with_their_verdicts(folder: Path) -> None:
    run("pairs.yaml", "--outputs", "mine.jsonl", "--judge", "stand_in", "-o", "items.jsonl", "--json")
    rows = [json.loads(line) for line in Path("items.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"pairwise/{i}" for i in range(6)]
    assert rows[0]["outputs"] == "mine"
    assert rows[0]["values"]["win"] == 0.5
    assert rows[5]["missing"] == "no answer: not in the file of outputs"
    assert rows[5]["values"]["win"] is None


def test_pairs_are_written_as_annotations_that_can_be_replayed(folder: Path) -> None:
    run("pairs.yaml", "--outputs", "mine.jsonl", "--judge", "stand_in", "-o", "annotations.json", "--json")
    rows = json.loads(Path("annotations.json").read_text())
    assert [(row["generator_2"], row["preference"]) for row in rows] == [("mine", 1.5)] * 5
    _, said = run("pairs.yaml", "--outputs", "mine.jsonl", "--verdicts", "annotations.json", "--json")
    win = json.loads(said.stdout)["sources"][0]["figures"][0]
    assert (win["value"], win["missing"]) == (0.5, 1)


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["pairs.yaml", "--outputs", "none.jsonl", "--judge", "stand_in"], 2, "there is no file none.jsonl"),
    (["pairs.yaml", "--outputs", "bad.jsonl", "--judge", "stand_in"], 2, "2 mistakes; nothing was scored"),
    (["pairs.yaml", "--outputs", "mine.jsonl"], 2, "--verdicts FILE"),
    (["pairs.yaml", "--outputs", "mine.jsonl", "--outputs", "mine.jsonl"], 2, "is given twice"),
    (["paris", "--outputs", "mine.jsonl"], 2, "paris"),
    (["pairs.yaml", "--outputs", "null.jsonl", "--judge", "stand_in"], 3, "nothing was measured"),
    (["pairs.yaml"], 2, "--outputs"),
    (["pairs.yaml", "--outputs", "mine.jsonl", "--judge", "stand_in", "-o", "none/o.jsonl"], 2, "there is no folder"),
    (["pocket", "--outputs", "mine.jsonl", "-o", "o.json"], 2, "which only suites of pairs have"),
])  # fmt: skip
def test_exit_codes(folder: Path, arguments: list[str], code: int, message: str) -> None:
    Path("bad.jsonl").write_text('{"id": 0, "output": "a"}\n{"id": 0, "output": "b"}\n{"id": 77, "output": "c"}\n')
    Path("null.jsonl").write_text('{"id": 0, "output": null}\n')
    found, said = run(*arguments)
    assert found == code
    assert message in said.output
    assert "Traceback" not in said.output
