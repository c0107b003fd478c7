"""Single things by name, for commands without an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import config
from harness.errors import ConfigError, UserError

from .conftest import Blocks

if TYPE_CHECKING:
    from .conftest import Project


def test_a_block_from_texts() -> None:
    top = config.load_block("select", "top", ["by=ifd", "keep=5%", "where.ifd.below=1"], Blocks())
    assert (top.keep.share, top.where) == (0.05, {"ifd": {"below": 1}})
    with pytest.raises(ConfigError, match="unknown key 'kep'; did you mean 'keep'"):
        config.load_block("select", "top", ["by=ifd", "kep=5%"], Blocks())
    with pytest.raises(UserError, match="no select block named 'tpo'"):
        config.load_block("select", "tpo", [], Blocks())


def test_a_dataset_by_name_and_by_file(project: Project) -> None:
    project.write("datasets_cfg/mine.yaml", "dataset: mine\npath: ../experiments/rows.jsonl\nrows: 3\n")
    assert config.load_dataset("mine", Blocks()).rows == 3
    assert config.load_dataset("experiments/rows.jsonl", Blocks()).name == "rows.jsonl"
    assert config.load_dataset(project.root / "datasets_cfg/mine.yaml", Blocks()).rows == 3
    project.write("rows.txt", "q")
    with pytest.raises(UserError, match="rows.txt: the ending says what a data file is"):
        config.load_dataset("rows.txt", Blocks())
    with pytest.raises(ConfigError, match="there is no dataset named 'mien'; did you mean 'mine'"):
        config.load_dataset("mien", Blocks())


def test_a_model_by_bundled_name_and_by_folder(project: Project) -> None:
    assert config.load_model("experiments/model", Blocks()).path == str(project.root / "experiments/model")
    assert config.load_model("pocket/oracle", Blocks()).judge == "oracle"
    with pytest.raises(ConfigError, match="--model: there is no model folder"):
        config.load_model("gone", Blocks())


def test_a_suite_by_name(project: Project) -> None:
    assert config.load_suite("world", Blocks()).block.count == 20
    with pytest.raises(ConfigError, match="there is no suite named 'wolrd'; did you mean 'world'"):
        config.load_suite("wolrd", Blocks())
