"""docs/lm-eval-tasks.md: its suite loads and plans, its commands run, its presets exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import config
from harness.blocks import registry
from harness.cli.main import main
from harness.evaluate.lm_eval import LMEval

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "lm-eval-tasks.md").read_text(encoding="utf-8")
ROWS = [
    {"question": f"{i}?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "AB"[i % 2]}
    for i in range(40)
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a copy of ARC's layout, and a home of its own."""
    folder = tmp_path / "data" / "ai2_arc" / "ARC-Challenge"
    folder.mkdir(parents=True)
    for split in ("test", "train"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.setenv("LOOPBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_suite_of_the_page_loads_and_plans(data: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    Path("arc.yaml").write_text(text)
    suite = config.load_suite("arc.yaml", registry).block
    assert isinstance(suite, LMEval)
    assert len(suite.items("test")) == 40
    assert suite.metrics()[0].name == "acc_norm"
    Path("mine.yaml").write_text(
        "experiment: mine\nmodels: {student: pocket/base, judge: pocket/oracle}\ndata: {pool: pocket/clean}\n"
        "recipes: [all-data]\nsuites: [arc.yaml, arc-challenge]\n"
    )
    done = CliRunner().invoke(main, ["plan", "mine.yaml", "--json"])
    assert done.exit_code == 0, done.output
    Path("both.yaml").write_text(text.replace("task: arc_challenge", "task: [arc_challenge, arc_easy]"))
    both = config.load_suite("both.yaml", registry).block
    assert isinstance(both, LMEval)
    assert both.task == ("arc_challenge", "arc_easy")
    labels = [stage["label"] for stage in json.loads(done.output)["stages"]]
    assert any("arc-challenge" in label for label in labels)
    assert any(" arc " in f"{label} " for label in labels)


def test_the_presets_that_it_names_are_there() -> None:
    (listed,) = re.findall(r"^Presets: (.*?)\. All options", PAGE, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`([\w-]+)`", listed))
    assert len(named) == 11
    assert named <= set(config.names("suites"))


def test_its_commands(real_data: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(main, ["show", "lm_eval"])
    assert shown.exit_code == 0, shown.output
    assert "folder" in shown.output
    monkeypatch.setenv("LOOPBENCH_DATA", str(real_data))
    checked = CliRunner().invoke(main, ["show", "gsm8k", "--check"])
    assert checked.exit_code == 0, checked.output
    gold = [row["answer"] for row in map(json.loads, (real_data / "gsm8k" / "test.jsonl").read_text().splitlines())]
    lines = [json.dumps({"id": i, "output": text}) for i, text in enumerate(gold)]
    Path("answers.jsonl").write_text("\n".join(lines))
    scored = CliRunner().invoke(main, ["score", "gsm8k", "--outputs", "answers.jsonl"])
    assert scored.exit_code == 0, scored.output
    assert "numeric" in scored.output
