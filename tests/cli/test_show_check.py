"""`loopbench show SUITE --check`: a suite proves itself, or is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main


def check(*arguments: str) -> tuple[int, str]:
    said = CliRunner().invoke(main, ["show", *arguments, "--check"], standalone_mode=False)
    return said.return_value, said.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten rows of words, each with a right answer."""
    monkeypatch.chdir(tmp_path)
    words = "red green blue plum fig date pear apple lime kiwi".split()
    rows = [{"prompt": f"Say {word}.", "reference": word} for word in words]
    Path("words.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_a_suite_that_proves_itself(folder: Path) -> None:
    Path("good.yaml").write_text("suite: custom\npath: words.jsonl\ncheck: {kind: contains}\n")
    code, said = check("good.yaml")
    assert code == 0, said
    lines = said.splitlines()
    assert [line.split()[:3] for line in lines] == [["ok", name, "answers,"] for name in ("gold", "empty", "shuffled")]
    assert "1.000 [0.722 1.000] n=10 wanted 1" in lines[0]


def test_a_suite_whose_grading_is_broken_is_found_out(folder: Path) -> None:
    Path("bad.yaml").write_text("suite: custom\npath: words.jsonl\ncheck: {kind: contains, extract: 'Answer: (.*)'}\n")
    code, said = check("bad.yaml")
    assert code == 1
    assert said.startswith("MISS gold answers")


def test_json_has_interval_n_and_missing(folder: Path) -> None:
    Path("good.yaml").write_text("suite: custom\npath: words.jsonl\ncheck: {kind: exact}\n")
    _, said = check("good.yaml", "--json")
    document: dict[str, Any] = json.loads(said)
    (gold, empty, shuffled) = document["checks"]
    assert (gold["value"], gold["n"], gold["missing"], gold["passed"]) == (1.0, 10, 0, True)
    assert gold["low"] < 0.9
    assert gold["high"] == pytest.approx(1.0)
    assert (empty["value"], shuffled["value"]) == (0.0, 0.0)


def test_check_needs_a_name() -> None:
    code, said = check()
    assert code == 2
    assert "--check needs a name" in said


def test_the_yaml_that_is_shown_is_the_file_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be copied from the terminal: however narrow that is, no line is folded."""
    monkeypatch.setenv("COLUMNS", "40")
    from harness import config

    path = config.preset_path("suites", "alpaca-eval-lc")
    said = CliRunner().invoke(main, ["show", "alpaca-eval-lc"]).output
    lines = path.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) > 40
    shown = said.splitlines()
    start = shown.index(lines[0])
    assert shown[start : start + len(lines)] == lines
    assert str(path) in shown
