"""`loopbench plan` says which stages its sums leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROW = {"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]}


def test_stages_of_unknown_size_are_named_beside_the_sums(loopbench: Any, tmp_path: Path) -> None:
    """A file's rows are not counted when planning: 0 tokens would look like a cheap run."""
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(ROW)}\n")
    known = "pool: {path: rows.jsonl, rows: 1}"
    experiment = tmp_path / "tiny.yaml"
    experiment.write_text(
        experiment.read_text()
        .replace("pool: {use: pocket/defects, options: {rows: 24}}", known)
        .replace("{select: sample, keep: 8, as: drawn}", "{score: length}")  # asks no model, and costs none
    )
    done = loopbench("plan", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "not in these sums" not in done.stdout
    experiment.write_text(experiment.read_text().replace(known, "pool: {path: rows.jsonl}"))
    done = loopbench("plan", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    said = "not in these sums, because the number of their rows is not known yet: 1 finetune"
    assert said in done.stdout
