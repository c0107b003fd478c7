"""`docs/evaluation.md` says what its commands print: each is run, and each figure compared digit for digit."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.score import score_command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
FITTED = 0.2
"""How far the refitted length-controlled win rate may be from the published one: see the page."""


@dataclass(frozen=True)
class Section:
    title: str
    command: list[str]
    rows: list[tuple[str, str, str, str]]
    script: str | None


def sections() -> Iterator[Section]:
    """The sections that have a command and a table."""
    if not PAGE.is_file():
        return
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        command = re.search(r"```sh\n(loopbench score .*?)```", part, re.DOTALL)
        script = re.search(r"```python\n(.*?)```", part, re.DOTALL)
        cells = [tuple(c.strip() for c in line.strip("|").split("|")) for line in part.splitlines() if line[:1] == "|"]
        if command:
            rows = [(c[0], c[1], c[2], c[3]) for c in cells[2:]]
            written = script[1] if script else None
            yield Section(part.splitlines()[0], shlex.split(command[1].replace("\\\n", " "))[2:], rows, written)


SECTIONS = list(sections())


def test_the_page_is_there_where_the_tests_run_from_a_checkout() -> None:
    if not PAGE.is_file():
        pytest.skip(f"{PAGE} is not part of this installation")
    assert [section.title for section in SECTIONS] == ["AlpacaEval 2", "AlpacaEval 1", "MT-Bench", "GSM8K"]
    assert all(section.rows for section in SECTIONS)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_the_commands_give_the_figures(
    section: Section, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPBENCH_DATA", str(real_data))
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    if section.script is not None:
        solutions = real_data / "gsm8k" / "example_model_solutions.jsonl"
        if not solutions.is_file():
            pytest.skip(f"{solutions} is not there: docs/evaluation.md says where to get it")
        shutil.copy(solutions, tmp_path)
        exec(section.script, {})  # noqa: S102 - the page's own script
    arguments = [text.replace("$LOOPBENCH_DATA", str(real_data)) for text in section.command]
    said = CliRunner().invoke(score_command, [*arguments, "--json"], standalone_mode=False)
    assert said.exception is None, said.exception
    document = json.loads(said.stdout)
    for answers, figure, published, ours in section.rows:
        value = found(document, answers, figure)
        assert f"{value:.{places(ours)}f}" == ours, (answers, figure)
        if figure == "length_controlled_winrate":
            assert value == pytest.approx(float(published), abs=FITTED)
        else:
            assert published == ours, (answers, figure)


def found(document: dict[str, Any], answers: str, figure: str) -> float:
    """The value that a row of the page is about."""
    (source,) = [source for source in document["sources"] if source["name"] == answers]
    name, _, what = figure.partition(" ")
    if name.startswith("n_") or what == "(right)":
        return float(source["counts"][name])
    (made,) = [made for made in source["figures"] if made["name"] == name]
    return float(made["error"] if what == "s.e." else made["value"])


def places(text: str) -> int:
    return len(text.partition(".")[2])


def test_every_figure_of_a_published_comparison_has_its_interval(real_data: Path, tmp_path: Path) -> None:
    from harness import api

    folder = real_data / "mt_bench"
    done = api.score(
        str(mt_bench(folder, tmp_path)),
        [str(folder / f"model_answer/{name}.jsonl.gz") for name in ("llama2_7b", "llama2_chat_7b")],
        verdicts=[str(folder / f"model_judgment/{n}_gpt-4_single.jsonl.gz") for n in ("llama2_7b", "llama2_chat_7b")],
    )
    for source in done.scoring.sources:
        assert all(f.low is not None and f.high is not None and f.n > 0 for f in source.figures)
        assert all(f.low <= f.value <= f.high for f in source.figures if f.low is not None and f.value and f.high)
    (difference,) = done.scoring.differences
    assert difference.value == pytest.approx(6.190625 - 3.968750)
    assert (difference.verdict, difference.n, difference.missing) == ("higher", 80, 0)
    assert difference.low < difference.value < difference.high


def mt_bench(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mt.yaml"
    path.write_text(f"suite: mt_bench\nquestions: {folder / 'question.jsonl'}\n")
    return path
