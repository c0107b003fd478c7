"""docs/custom-suites.md followed to the letter: its files are written, its commands run, and they do what it says."""

from __future__ import annotations

import importlib.util
import re
import shlex
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from suite_driver import grades, said

from harness.blocks import registry
from harness.cli.main import main
from harness.config.single import load_suite

PAGE = Path(__file__).resolve().parents[2] / "docs" / "custom-suites.md"
_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_NAMED = re.compile(r"(?:into|in) `([\w.-]+\.(?:jsonl|yaml|py))`")


def blocks() -> list[tuple[str | None, str]]:
    """The page's blocks in order: the name of the file that one is to be put into (None: commands), and its text."""
    text, found, last = PAGE.read_text(encoding="utf-8"), [], 0
    for match in _BLOCK.finditer(text):
        names = _NAMED.findall(text[last : match.start()])
        last = match.end()
        if match[1] in ("jsonl", "yaml", "python"):
            assert names, f"the page does not say where to put {match[2][:60]!r}"
            found.append((names[-1], match[2]))
        elif not match[1]:
            found.append((None, match[2]))
    return found


def test_every_block_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    said_by: dict[str, str] = {}
    for name, text in blocks():
        if name is not None:
            Path(name).write_text(text, encoding="utf-8")
            continue
        for line in text.strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "loopbench"
            done = CliRunner().invoke(main, arguments)
            assert done.exit_code == 0, f"{line}\n{done.output}"
            said_by[" ".join(arguments[:2])] = done.output
    assert sorted(Path().glob("*.jsonl")) == [Path(n) for n in ("answers.jsonl", "capitals.jsonl", "letters.jsonl")]
    assert said_by["show capitals.yaml"].count("ok ") == 3
    assert re.search(r"accuracy +0\.8", said_by["score capitals.yaml"]), "four of five are right"
    assert "finetune" in said_by["plan mine.yaml"]
    assert said_by["show letters.yaml"].count("ok ") == 3
    _the_checker_of_the_page(monkeypatch)


def _the_checker_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("brief_package", "brief_package.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entry = EntryPoint("judge.brief", "brief_package:Brief", registry.GROUP)
    monkeypatch.setattr(registry, "_foreign", lambda: {"judge.brief": entry})
    monkeypatch.setattr(EntryPoint, "load", lambda _: module.Brief)
    (written,) = re.findall(r"`check: (\{kind: block.*?\}\})`", PAGE.read_text(encoding="utf-8"))
    Path("brief.yaml").write_text(f"suite: custom\npath: capitals.jsonl\ncheck: {written}\n")
    suite = load_suite("brief.yaml", registry).block
    items = suite.items("test")[:2]
    found = grades(suite, items, said(items, [("Paris",), ("It is " + "very " * 9 + "long",)]), None)
    assert [grade.values["accuracy"] for grade in found] == [1.0, 0.0]


def test_the_page_names_every_check_and_field() -> None:
    from typing import get_args

    from harness.evaluate import _checks, _custom_rows

    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in (*get_args(_checks.Kind), *_custom_rows.FIELDS))
