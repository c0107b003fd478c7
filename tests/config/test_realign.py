"""Options of ReAlign's blocks in YAML: files beside the recipe, shipped names, nested rules and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import config
from harness.blocks import registry
from harness.errors import UserError

EXPERIMENT = """\
experiment: one
models: {student: pocket/base, teacher: pocket/chat, judge: pocket/oracle}
data: {pool: pocket/clean}
recipes:
  - recipe: mine
    steps:
      - {synthesize: rewrite, TAXONOMY, rules: {preset: paper, shorter: 0.25}}
      - {finetune: sft}
suites: [pocket]
"""


def rewrite(folder: Path, option: str, *settings: str) -> Any:
    file = folder / "one.yaml"
    file.write_text(EXPERIMENT.replace("TAXONOMY", option))
    return config.load(file, registry, list(settings)).recipe("mine").steps[0].block(1)


def test_a_taxonomy_is_a_shipped_name_or_a_file_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("default: a\ntasks: {a: {group: g, means: m, format: f}}\n")
    assert rewrite(tmp_path, "taxonomy: pocket").taxonomy == "pocket"
    assert rewrite(tmp_path, "taxonomy: mine.yaml").taxonomy == str(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match=r"one.yaml:7: there is no file or folder .*other.yaml"):
        rewrite(tmp_path, "taxonomy: other.yaml")


def test_rules_may_be_a_preset_or_a_mapping_and_single_ones_can_be_set(tmp_path: Path) -> None:
    block = rewrite(tmp_path, "n: 1", "mine.rewrite.rules.numbers=checked")
    assert (block.rules.shorter, block.rules.code, block.rules.numbers) == (0.25, "checked", "checked")
    with pytest.raises(UserError, match=r"rules.digits=checked: unknown key .digits."):
        rewrite(tmp_path, "n: 1", "mine.rewrite.rules.digits=checked")
    file = tmp_path / "two.yaml"
    file.write_text(EXPERIMENT.replace("TAXONOMY", "n: 1").replace("{preset: paper, shorter: 0.25}", "alpaca"))
    rules = config.load(file, registry).recipe("mine").steps[0].block(1).rules
    assert (rules.preset, rules.shorter_or_equal) == ("alpaca", True)


def test_the_released_prompts_are_named_by_their_entry_and_nothing_is_downloaded_to_plan(tmp_path: Path) -> None:
    block = rewrite(tmp_path, "released: realign-prompts")
    assert block.released.url.startswith("https://raw.githubusercontent.com/GAIR-NLP/ReAlign/65e66d3")
    assert block.identity_options()["released"] == "fdf5a41fd8323ed824b9033dfdb8ebcc2358fe0e14f61c1be72509aeb1fddfa9"
