"""Magpie's paper, as shipped: the numbers of its tables, and a plan of the whole with small models in their places."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import config
from harness.blocks import registry
from harness.config.model import Experiment
from harness.errors import UserError
from harness.loop.plan import Plan
from harness.records.example import Example
from harness.select.magpie_filter import MagpieFilter
from harness.select.tagged import Tagged
from harness.synthesize._teachers import GRIDS
from harness.synthesize.magpie import Magpie

SHARED = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
ROLES = ("teacher", "tagger", "guard", "reward", "preference_reward")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Experiment:
    if not (SHARED / "alpaca" / "seed_tasks.jsonl").is_file():
        pytest.skip(f"no seed tasks: LOOPBENCH_SHARED_DATA is not set and {SHARED} has none")
    monkeypatch.setenv("LOOPBENCH_DATA", str(SHARED))
    monkeypatch.setenv("MAGPIE_MODELS", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    small = [f"models.{role}=pocket/chat" for role in ROLES]
    return config.load("paper-magpie", registry, [*small, "models.student=pocket/base", "models.embedder=hashed"])


def blocks(experiment: Experiment, verb: str) -> list[Any]:
    return [step.block(1) for step in experiment.recipe("magpie-paper").steps if step.verb == verb]


def test_the_training_has_the_numbers_of_tables_8_and_9(paper: Experiment) -> None:
    sft, dpo = blocks(paper, "finetune")
    assert (sft.learning_rate, sft.lr_scheduler_type, sft.epochs, sft.warmup_steps, sft.max_length) == (
        2e-5, "cosine", 2, 100, 8192,
    )  # fmt: skip
    assert sft.batch_size * sft.gradient_accumulation_steps == 32
    assert (dpo.learning_rate, dpo.lr_scheduler_type, dpo.epochs, dpo.warmup_steps) == (5e-7, "cosine", 1, 0.1)
    assert dpo.batch_size * dpo.gradient_accumulation_steps == 128
    assert (dpo.beta, dpo.max_length) == (0.01, 2048)


def test_the_synthesis_has_the_numbers_of_table_7(paper: Experiment) -> None:
    magpie, respond = blocks(paper, "synthesize")
    assert isinstance(magpie, Magpie)
    assert (magpie.rows, magpie.grid, magpie.response_temperature) == (3_000_000, "air", 0.0)
    assert sum(cell.weight for cell in GRIDS["air"]) * 100_000 == 3_000_000
    assert sum(cell.weight for cell in GRIDS["pro"]) * 100_000 == 1_000_000
    assert (respond.n, respond.temperature) == (5, 0.8)
    chosen = blocks(paper, "select")
    assert isinstance(chosen[0], MagpieFilter)
    assert chosen[0].preset == "air"
    labelled, sampled = chosen[1:]
    assert isinstance(labelled, Tagged), "rows without a category would be a stratum of their own"
    assert labelled.by == sampled.per == "category"
    assert 12 * sampled.keep.count == pytest.approx(100_000, abs=12)


def test_the_seeds_of_the_control_arm_are_read(paper: Experiment) -> None:
    from harness.records.sources import load

    rows = [row for row in load(paper.data["pool"]) if isinstance(row, Example)]
    assert len(rows) == 175
    assert "breakfast" in rows[0].messages[0]["content"]


def test_the_whole_is_planned_offline(paper: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every capability, role, column and file is checked; the reward model is a small one with a single logit."""
    import harness.pocket
    from harness import api

    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    models = Path(harness.pocket.__file__).parent / "models"
    judge = shutil.copytree(models / "chat", tmp_path / "judge")
    about = json.loads((judge / "config.json").read_text())
    about |= {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}
    (judge / "config.json").write_text(json.dumps(about))
    bare = shutil.copytree(models / "chat", tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()

    def planned(**other: str) -> Plan:
        bound = dict.fromkeys(ROLES, "pocket/chat") | {"student": "pocket/base", "embedder": "hashed"}
        bound |= {"reward": str(judge), "preference_reward": str(judge)} | other
        return api.plan("paper-magpie", [f"models.{role}={model}" for role, model in bound.items()])

    actions = {stage.name for stage in planned().stages.values()}
    assert {"magpie", "guard", "neighbours", "reward_difference", "magpie_filter", "best_worst", "dpo"} <= actions
    with pytest.raises(UserError, match="reward_difference asks the model bound to 'reward'"):
        planned(reward="pocket/chat")
    with pytest.raises(UserError, match=r"to 'teacher' to write a user's turn, and .* without a chat template"):
        planned(teacher=str(bare))
