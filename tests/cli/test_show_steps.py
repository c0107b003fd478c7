"""`loopbench show RECIPE` explains the options of every step: what the recipe sets, defaults, units and sources."""

from __future__ import annotations

import json

from click.testing import CliRunner

from harness.cli.main import main


def test_a_recipe_is_explained_by_its_steps() -> None:
    found = json.loads(CliRunner().invoke(main, ["show", "spin", "--json"]).output)
    assert found["recipes"]["text"].startswith("# SPIN")
    dpo = found["step dpo: finetune dpo"]["options"]
    assert dpo["beta"]["here"] == "{'by_iteration': [0.1, 0.1, 0.1, 0.1, 5]}"
    assert dpo["beta"]["default"] == 0.1
    assert dpo["max_length"]["here"] is None
    assert dpo["max_length"]["unit"] == "tokens"
    assert "2401.01335" in dpo["loss_type"]["source"]
    assert "step pairs: pair gold_vs_self" in found


def test_a_block_by_itself_has_no_such_column() -> None:
    found = json.loads(CliRunner().invoke(main, ["show", "dpo", "--json"]).output)
    assert "here" not in found["finetune block"]["options"]["beta"]
