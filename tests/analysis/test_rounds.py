"""`loopbench rounds`: what each iteration did, and why it may be the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness import api
from harness.analysis.grid import read_grid
from harness.analysis.rounds import Round, rounds
from harness.cli.main import main
from harness.errors import CannotTell
from harness.loop.run import write_grid
from harness.store.artifacts import Store
from harness.store.home import Home

EXPERIMENT = """
experiment: looped
models: {student: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/clean, options: {rows: 8}}}
suites: [{use: pocket, count: 4, dev_count: 4}]
recipes: [spin]
seeds: 2
baseline: spin
leaks: {policy: allow}
"""
STOP = "stop: accuracy 0.50 on 40 held-out pairs (p 0.56) is not above one half: another round does not pay"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of which the first two iterations of both seeds are finished; its reports are made up."""
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path))
    (tmp_path / "looped.yaml").write_text(EXPERIMENT)
    plan = api.plan(str(tmp_path / "looped.yaml"))
    home = Home(tmp_path).prepare()
    write_grid(plan, home)
    store = Store(home)
    for cell in plan.cells:
        for turn in cell.turns[:2]:
            for name, key in turn.steps.items():
                stage = plan.stages[key]
                store.work(stage.kind, key)
                store.commit(stage.kind, key, (), {"rows": 0, "report": report(name, cell.seed)})
    return tmp_path


def report(step: str, seed: int) -> dict[str, Any]:
    if step == "pairs":
        return {"counts": {}, "figures": {"distance": 0.2 + 0.2 * seed, "equal answers": 0.5}}
    if step != "dpo":
        return {}
    first = {"step": 1, "loss": 0.6931, "logps/chosen": -2.0, "logps/rejected": -6.0, "rewards/margins": 0.0}
    last = {"step": 9, "loss": 0.6, "logps/chosen": -3.0, "logps/rejected": -9.0, "rewards/margins": 0.4}
    figures = {"held_out/rewards/accuracies": 0.5}
    return {"rows": 10, "history": [first, last], "figures": figures, "notes": {"stop": STOP}}


def by_iteration(home: Path) -> dict[int, Round]:
    return {one.iteration: one for one in rounds(home, "looped")}


def test_finished_iterations_with_their_means(home: Path) -> None:
    found = by_iteration(home)
    assert list(found) == [1, 2]
    values = found[2].values
    assert found[2].cells == 2
    assert values["distance"] == pytest.approx(0.3)
    assert values["rows"] == 10
    assert (values["first loss"], values["last loss"], values["last rewards/margins"]) == (0.6931, 0.6, 0.4)
    assert values["last logps/rejected"] == -9.0


def test_the_trainings_own_signal_is_a_reason_to_stop(home: Path) -> None:
    found = by_iteration(home)
    assert found[1].stop == ()
    assert found[2].stop == (f"2 of 2 trainings say {STOP}",)


def test_a_round_without_a_pair_of_its_own_is_a_reason_to_stop(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a window it trains on older pairs, so the training does not fail."""
    monkeypatch.setattr(
        "harness.analysis.rounds._steps", lambda grid, turn: {"equal answers": float(turn.iteration > 1)}
    )
    found = by_iteration(home)
    assert found[1].stop == ()
    assert found[2].stop[-1] == "stop: every answer equals the data's, so the round has no pair of its own"


@pytest.mark.parametrize(("split", "reasons"), [("dev", 1), ("test", 0)])
def test_a_small_gain_is_a_reason_on_dev_and_never_on_test(
    home: Path, monkeypatch: pytest.MonkeyPatch, split: str, reasons: int
) -> None:
    grid = read_grid(home, "looped")
    scores = {
        (cell.recipe, cell.student, cell.seed, 0, turn.iteration): 0.5 for cell in grid.cells for turn in cell.turns
    }
    monkeypatch.setattr("harness.analysis.rounds._scores", lambda grid, which: scores if which == split else {})
    second = by_iteration(home)[2]
    assert second.values[f"{split} gain"] == 0.0
    assert len([reason for reason in second.stop if "dev score gains +0.0000" in reason]) == reasons


def test_the_command(home: Path) -> None:
    shown = CliRunner().invoke(main, ["rounds", "looped"])
    assert shown.exit_code == 0
    assert "distance" in shown.output
    assert f"after iteration 2: 2 of 2 trainings say {STOP}" in shown.output
    found = json.loads(CliRunner().invoke(main, ["rounds", "looped", "--json"]).output)
    assert [one["iteration"] for one in found] == [1, 2]
    assert CliRunner().invoke(main, ["rounds", "never-run"]).exit_code == 3


def test_nothing_was_run(tmp_path: Path) -> None:
    with pytest.raises(CannotTell):
        rounds(tmp_path, "looped")
