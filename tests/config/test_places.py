"""Names resolve beside the file, then in the project, then in the presets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import config
from harness.errors import UserError

if TYPE_CHECKING:
    from .conftest import Project


def test_a_recipe_beside_the_experiment_comes_first(project: Project) -> None:
    project.write("elsewhere/mine.yaml", (project.root / "experiments/trial.yaml").read_text())
    project.write("elsewhere/pick.yaml", "recipe: pick\nsteps: [{finetune: sft}]\n")
    project.write("elsewhere/rows.jsonl", "{}")
    project.write("elsewhere/model/config.json", "{}")
    trial = project.load(name="elsewhere/mine.yaml")
    assert len(trial.recipe("pick").steps) == 1
    assert len(trial.recipe("chain").steps) == 5


def test_the_project_of_an_experiment_is_found_from_anywhere(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    trial = project.load(name=str(project.root / "experiments/trial.yaml"))
    assert trial.suites[0].block.count == 20


def test_an_experiment_never_passes_for_a_recipe_of_its_name(project: Project) -> None:
    project.replace("experiments/trial.yaml", "[pick, chain]", "[pick, trial]")
    assert "experiments/trial.yaml:4: there is no recipe named 'trial'" in "\n".join(project.mistakes())


def test_presets_are_found_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"quickstart", "smoke", "real-data"} <= set(config.names("experiments"))
    assert {"all-data", "random-10", "ifd-10", "magpie", "magpie-ifd", "clear", "spin"} <= set(config.names("recipe"))
    assert {"pocket/defects", "pocket/clean", "alpaca", "gsm8k-train"} <= set(config.names("datasets"))
    for kind in ("experiments", "recipes", "datasets", "suites"):
        for name in config.names(kind):
            assert config.summary(config.preset_path(kind, name)), f"{kind} {name} opens with no comment"


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="no recipe named 'idf-10'; did you mean 'ifd-10'"):
        config.preset_path("recipes", "idf-10")


def test_copies_of_the_presets_work_and_are_not_overwritten(tmp_path: Path) -> None:
    first = config.copy_presets(tmp_path)
    assert tmp_path / "experiments/recipes/ifd-10.yaml" in first
    (tmp_path / "experiments/quickstart.yaml").write_text("mine")
    assert config.copy_presets(tmp_path) == []
    assert (tmp_path / "experiments/quickstart.yaml").read_text() == "mine"
