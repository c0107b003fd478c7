"""`loopbench show RECIPE` explains the options of every step: what the recipe sets, defaults, units and sources."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.cli.main import main


def test_a_recipe_is_explained_by_its_steps() -> None:
    found = json.loads(CliRunner().invoke(main, ["show", "spin", "--json"]).output)
    assert found["recipes"]["text"].startswith("# SPIN")
    dpo = found["step dpo: finetune dpo"]["options"]
    assert dpo["beta"]["here"] == "{by_iteration: [0.1, 0.1, 0.1, 0.1, 5]}"
    assert dpo["beta"]["default"] == 0.1
    assert dpo["max_length"]["here"] is None
    assert dpo["max_length"]["unit"] == "tokens"
    assert "2401.01335" in dpo["loss_type"]["source"]
    assert "step pairs: pair gold_vs_self" in found


def test_a_block_by_itself_has_no_such_column() -> None:
    found = json.loads(CliRunner().invoke(main, ["show", "dpo", "--json"]).output)
    assert "here" not in found["finetune block"]["options"]["beta"]


RECIPES = ("magpie", "ifd", "spin", "realign", "lab")


@pytest.mark.parametrize("name", RECIPES)
def test_every_option_of_the_five_methods_is_explained(name: str) -> None:
    found = json.loads(CliRunner().invoke(main, ["show", name, "--json"]).output)
    blocks = [part for part in found.values() if isinstance(part, dict) and "options" in part]
    assert blocks
    for block in blocks:
        assert block["what"]
        for option, about in block["options"].items():
            assert about["what"], option
            assert about["default"] is None or about["default"] != "", option
    assert any(about["source"] for block in blocks for about in block["options"].values())
    assert any(about["unit"] for block in blocks for about in block["options"].values())


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_printed_can_be_read(name: str) -> None:
    """Names and values stay whole, whatever the width, and a block's text stands once."""
    text = CliRunner().invoke(main, ["show", name]).output
    found = json.loads(CliRunner().invoke(main, ["show", name, "--json"]).output)
    lines = text.splitlines()
    assert "('" not in text
    assert max(len(line) for line in lines if line[:1].isalpha()) <= 120
    for block in (part for part in found.values() if isinstance(part, dict) and "options" in part):
        for option in block["options"]:
            assert any(line.startswith(option) for line in lines), option
        assert text.count(block["what"].splitlines()[0][:60]) == 1


def test_steps_that_share_a_name_are_all_explained() -> None:
    found = json.loads(CliRunner().invoke(main, ["show", "lab", "--json"]).output)
    assert {"step threshold: select threshold", "step threshold: select threshold, 2"} <= found.keys()


def test_the_words_that_an_option_may_have_are_named() -> None:
    found = json.loads(CliRunner().invoke(main, ["show", "lab_knowledge", "--json"]).output)
    options = found["synthesize block"]["options"]
    assert options["answers"]["choices"] == ["together", "apart"]
    assert options["checks"]["choices"] == ["faithfulness", "relevancy", "question", "rating"]
    assert options["checks"]["default"] == "[faithfulness, relevancy, question]"
    grid = json.loads(CliRunner().invoke(main, ["show", "magpie", "--json"]).output)["synthesize block"]
    assert grid["options"]["grid"]["choices"] == [], "a list of one's own is possible too"
