"""Bad input: one clear paragraph (what, where, what to do), the documented exit code, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import EXPERIMENT, Run

CONFIGURATION = [
    ("train:", "trian:", r"tiny.yaml:12: .*'trian'.*'train'"),
    ("rows: 24", "rows: many", r"tiny.yaml:4: .*rows"),
    ("use: pocket/defects", "path: nowhere.jsonl", r"tiny.yaml:4: .*nowhere.jsonl"),
    ("select: sample", "select: sampel", r"tiny.yaml:8: .*'sampel'.*'sample'"),
    ("student: pocket/base", "student: pocket/bass", r"tiny.yaml:2: .*'pocket/bass'.*'pocket/base'"),
    ("{finetune: sft}", "{finetune: sft, from: drawm}", r"tiny.yaml:9: .*'drawm'.*'drawn'"),
    (
        "keep: 8, as: drawn}",
        "keep: 8, as: drawn, from: later}\n      - {select: dedup, as: later}",
        r"tiny.yaml:8: .*later",
    ),
    ("baseline: first", "baseline: frist", r"tiny.yaml:11: .*'frist'.*'first'"),
    ("epochs: 1", "epochs: .nan", r"tiny.yaml:12: .*epochs"),
]


def assert_one_paragraph(text: str) -> None:
    assert "Traceback" not in text
    assert text.startswith("loopbench: ")


@pytest.mark.parametrize(("old", "new", "said"), CONFIGURATION)
def test_a_mistake_in_the_file_is_named_with_its_line(
    loopbench: Run, tmp_path: Path, old: str, new: str, said: str
) -> None:
    import re

    assert old in EXPERIMENT
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT.replace(old, new))
    done = loopbench("plan", "tiny.yaml")
    assert done.returncode == 2, done.stderr
    assert_one_paragraph(done.stderr)
    assert re.search(said, done.stderr), done.stderr
    assert not (tmp_path / "home").exists()


def test_all_mistakes_are_named_at_once(loopbench: Run, tmp_path: Path) -> None:
    text = EXPERIMENT.replace("select: sample", "select: sampel").replace("baseline: first", "baseline: frist")
    (tmp_path / "tiny.yaml").write_text(text)
    done = loopbench("run", "tiny.yaml")
    assert done.returncode == 2
    assert "2 mistakes in the configuration; nothing was run." in done.stderr


def test_a_row_without_an_answer_is_named_by_file_and_line(loopbench: Run, tmp_path: Path) -> None:
    rows = '{"instruction": "say a", "input": "", "output": "a"}\n{"instruction": "say b", "input": "", "output": ""}\n'
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "tiny.yaml").write_text(
        EXPERIMENT.replace("{use: pocket/defects, options: {rows: 24}}", "{path: rows.jsonl}")
    )
    done = loopbench("run", "tiny.yaml", "--no-tracking")
    assert done.returncode == 2
    assert "rows.jsonl: 1 row" in done.stderr
    assert "no answer in line 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_pool_is_refused(loopbench: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    (tmp_path / "tiny.yaml").write_text(
        EXPERIMENT.replace("{use: pocket/defects, options: {rows: 24}}", "{path: rows.jsonl}")
    )
    done = loopbench("run", "tiny.yaml", "--no-tracking")
    assert done.returncode == 2
    assert "rows.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_selection_that_keeps_nothing_fails_its_recipe_only(loopbench: Run, tmp_path: Path) -> None:
    steps = "      - {score: length}\n      - {select: threshold, by: length, above: 100000, as: drawn}\n"
    text = EXPERIMENT.replace("      - {select: sample, keep: 8, as: drawn}\n", steps)
    (tmp_path / "tiny.yaml").write_text(text)
    done = loopbench("run", "tiny.yaml", "--no-tracking")
    assert done.returncode == 4, done.stderr
    assert "FAILED first i1 drawn" in done.stderr
    assert "keeps none of 24 rows (24 length <= 100000)" in done.stderr
    assert "loosen its options" in done.stderr
    status = loopbench("status", "tiny")
    assert "failed  first i1 drawn" in status.stdout


def test_a_loss_that_is_no_number_stops_the_stage_with_step_and_rows(loopbench: Run) -> None:
    done = loopbench(
        "run", "tiny.yaml", "--no-tracking", "--set", "train.learning_rate=1e30", "--set", "train.epochs=4"
    )
    assert done.returncode == 4, done.stderr
    assert "step" in done.stderr
    assert "pocket/" in done.stderr, "the rows of the batch are named"
    assert "learning" in done.stderr, "what to try is named"
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_written(loopbench: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = loopbench("run", "tiny.yaml", LOOPBENCH_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 2
    assert_one_paragraph(done.stderr)
    assert "LOOPBENCH_HOME" in done.stderr


def test_a_tracking_server_that_does_not_answer_costs_nothing_but_a_note(loopbench: Run) -> None:
    done = loopbench("run", "tiny.yaml", MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 0, done.stderr
    assert "MLflow" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "first" in done.stdout
    again = loopbench("run", "tiny.yaml", "--no-tracking")
    assert again.returncode == 0
    assert "0 stages to run" in again.stderr


def test_unknown_commands_and_names_offer_the_nearest(loopbench: Run) -> None:
    done = loopbench("rum", "quickstart")
    assert done.returncode == 2
    assert "Did you mean 'run'?" in done.stderr
    done = loopbench("run", "quickstat")
    assert done.returncode == 2
    assert "'quickstart'" in done.stderr
    done = loopbench("show", "tpo")
    assert done.returncode == 2
    assert "did you mean 'top'?" in done.stderr


def test_nothing_measured_is_never_a_pass(loopbench: Run) -> None:
    done = loopbench("compare", "quickstart")
    assert done.returncode == 3, done.stderr
    done = loopbench("gate", "quickstart", "--margin", "accuracy=0.02")
    assert done.returncode == 3, done.stdout
