"""`loopbench data check`: which test items are in a file of rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.data import data_command
from harness.cli.main import main
from harness.evaluate.pocket import Pocket


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    leaked = Pocket(count=40).items("test")[3].turns[0]
    path = tmp_path / "rows.jsonl"
    texts = [f"please , {leaked} thanks", "how do bees see ?", ""]
    path.write_text("".join(json.dumps({"prompt": t or "x", "completion": "y"}) + "\n" for t in texts))
    return path


def test_options_are_as_listed() -> None:
    check = data_command.commands["check"]
    assert set(data_command.commands) == {"check"}
    assert {o for p in check.params for o in p.opts} == {"dataset", "--suites", "--set", "-o", "--output", "--json"}


def test_a_leaked_item_is_counted_shown_and_written(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "hits.jsonl"
    command = ["data", "check", str(rows), "--suites", "pocket", "--json", "-o", str(out)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["rows"], found["dropped"]) == (3, {})
    test, dev = found["suites"]["pocket"]["test"], found["suites"]["pocket"]["dev"]
    assert (test["items"], test["affected"], test["rows"]) == (400, 1, 1)
    assert (dev["items"], dev["affected"]) == (200, 0)
    (hit,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (hit["row"], hit["suite"], hit["split"]) == ("rows.jsonl/0", "pocket", "test")

    said = CliRunner().invoke(main, ["data", "check", str(rows), "--suites", "pocket"]).output
    assert "pocket test: 1 of 400 items in 1 rows" in said
    assert "rows.jsonl/0 holds pocket/test/" in said


def test_mistakes_are_one_paragraph(rows: Path) -> None:
    wrong = CliRunner().invoke(main, ["data", "check", str(rows), "--suites", "pockt"])
    assert wrong.exit_code == 2
    assert "pocket" in wrong.output
    option = CliRunner().invoke(main, ["data", "check", str(rows), "--set", "word=3"])
    assert option.exit_code == 2
    assert "did you mean 'words'" in option.output
