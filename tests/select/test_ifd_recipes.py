"""The recipes of IFD selection as planned: the phases of Cherry, equal arms, and the paper's own numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness import api, config
from harness.blocks import registry
from harness.loop.plan import Plan
from harness.loop.stage import Stage

DATA = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
ARMS = (
    "ifd", "ifd-superfiltering", "ifd-random", "ifd-low", "ifd-high-ca", "ifd-perplexity", "ifd-longest", "ifd-diverse"
)  # fmt: skip
EXPERIMENT = """
experiment: tiny
models: {student: pocket/base, weak: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/clean, options: {rows: 200}}}
suites: [{use: pocket, count: 4, dev_count: 4, max_tokens: 8}]
train: {learning_rate: 2e-3, epochs: 1}
leaks: {policy: allow}
"""
LOCAL = ("models.student=pocket/base", "models.weak=pocket/base", "models.judge=pocket/oracle", "suites=[pocket]")


def planned(folder: Path, *recipes: str, more: str = "") -> Plan:
    file = folder / "tiny.yaml"
    file.write_text(EXPERIMENT + f"recipes: [{', '.join(recipes)}]\nbaseline: {recipes[0]}\n{more}")
    return api.plan(str(file))


def stages(plan: Plan, recipe: str) -> dict[str, Stage]:
    (cell,) = [cell for cell in plan.cells if cell.recipe == recipe]
    return {name: plan.stages[key] for name, key in cell.turns[0].steps.items()}


def test_cherry_scores_the_pool_with_a_model_that_learned_from_the_clusters(tmp_path: Path) -> None:
    plan = planned(tmp_path, "ifd-cherry")
    found = stages(plan, "ifd-cherry")
    brief, final = found["experienced"], found["sft"]
    assert brief.inputs[0].key == found["spread"].key
    assert brief.options()["train_tokens"] == 4000, "the rows once"
    (scored,) = found["ifd"].models.values()
    assert scored.stage == brief.key, "the briefly tuned model scores"
    assert found["ifd"].inputs[0].key == found["embed"].inputs[0].key, "all of the pool"
    assert final.models[final.roles["start"]].stage is None, "and the untuned model is trained"


def test_under_a_budget_the_scorer_still_learns_briefly_and_the_cell_trains_as_much_as_any(tmp_path: Path) -> None:
    plan = planned(tmp_path, "ifd-cherry", "ifd-random", more="budget: {train_tokens: 20k}\n")
    found = stages(plan, "ifd-cherry")
    assert [found[name].options()["train_tokens"] for name in ("experienced", "sft")] == [4000, 16000]
    assert stages(plan, "ifd-random")["sft"].options()["train_tokens"] == 20000


def test_the_arms_keep_the_same_share_of_the_same_pool(tmp_path: Path) -> None:
    plan = planned(tmp_path, *ARMS, more="budget: {train_tokens: 20k}\n")
    tokens, shares, pools = set(), set(), set()
    for name in ARMS:
        found = stages(plan, name)
        choosing = [stage for stage in found.values() if stage.action == "select"]
        shares |= {str(stage.options()["keep"]) for stage in choosing}
        tokens.add(found["sft"].options()["train_tokens"])
        first = next(iter(found.values()))
        pools.add(first.inputs[0].key)
    assert (shares, len(pools), tokens) == ({"10%"}, 1, {20000})


def test_one_forward_serves_every_arm_that_needs_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, "ifd", "ifd-low", "ifd-high-ca")
    assert len({stages(plan, name)["ifd"].key for name in ("ifd", "ifd-low", "ifd-high-ca")}) == 1


def recipes_of_the_paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("IFD_MODELS", str(tmp_path))
    return config.load("paper-ifd", registry, [*LOCAL, "data.pool=pocket/clean"])


def test_the_papers_experiment_is_valid_with_other_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IFD_MODELS", str(tmp_path))
    plan = api.plan("paper-ifd", (*LOCAL, "data.pool=pocket/clean"))
    assert len(plan.cells) == 5


def test_the_papers_answers_are_greedy_and_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the released script generates for AlpacaEval; the suite's own values are 0.7 and 2,048."""
    if not (DATA / "alpaca_eval").is_dir():
        pytest.skip(f"no suite files: LOOPBENCH_SHARED_DATA is not set and {DATA} has none")
    monkeypatch.setenv("IFD_MODELS", str(tmp_path))
    monkeypatch.setenv("LOOPBENCH_DATA", str(DATA))
    file = Path(__file__).resolve().parents[2] / "experiments" / "paper-ifd.yaml"
    (asked,) = [suite for suite in YAML(typ="safe").load(file)["suites"] if "alpaca-eval-1" in str(suite)]
    bound = (*LOCAL[:2], "models.judge=pocket/chat", "data.pool=pocket/clean", f"suites={json.dumps([asked])}")
    experiment = config.load("paper-ifd", registry, bound)
    block: Any = experiment.suites[0].block
    assert (block.temperature, block.max_tokens) == (0, 1024)


def test_the_papers_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    experiment = recipes_of_the_paper(monkeypatch, tmp_path)
    steps = {step.name: step.block(1) for step in experiment.recipe("ifd-paper").steps}
    assert (steps["spread"].clusters, steps["spread"].per_cluster) == (100, 10)  # arXiv 2308.12032 §2.1
    assert (steps["spread"].within, steps["spread"].low, steps["spread"].high) == ("perplexity", 25, 75)  # its script
    assert (steps["experienced"].epochs, steps["sft"].epochs) == (1, 3)
    for name in ("experienced", "sft"):
        block = steps[name]
        assert (block.learning_rate, block.max_length, block.weight_decay, block.warmup_steps) == (2e-5, 512, 0, 0.03)
        assert block.batch_size * block.gradient_accumulation_steps == 128
    assert (steps["ifd"].variant, steps["ifd"].max_length) == ("cherry_alpaca", 512)
    assert steps["top"].where["ifd"].max == 1.0, "1 itself is kept"
    weak = {step.name: step.block(1) for step in experiment.recipe("ifd-superfiltering-paper").steps}
    assert (weak["ifd"].model, weak["ifd"].variant, weak["ifd"].max_length) == ("weak", "superfiltering", 1024)
    assert weak["top"].where["ifd"].below == 1.0, "1 itself is not"
    second = {step.name: step.block(1) for step in experiment.recipe("ifd-v2-paper").steps}
    assert (second["ifd"].variant, second["sft"].max_length) == ("cherry_vicuna", 2048)
