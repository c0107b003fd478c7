"""What `loopbench gate` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from written_experiments import Written, write

from harness.cli.gate import gate_command


def test_json_is_one_document_also_where_a_baseline_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    write(tmp_path, Written(items=20, arms={"good": 0.7, "plain": 0.5}))
    path = tmp_path / "main.json"

    said = CliRunner().invoke(gate_command, ["night", "--write", str(path), "--json"], standalone_mode=False)

    assert said.exception is None
    document = json.loads(said.stdout)
    assert (document["written"], document["experiment"]) == (str(path), "night")
    assert path.exists()
