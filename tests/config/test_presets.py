"""The shipped experiments and recipes are valid against the real blocks; the real-data ones where the files are."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from harness import config
from harness.blocks import registry
from harness.config.claims import ScorerClaim
from harness.records.example import Dropped, Example, prompt_text
from harness.records.sources import load

HERE = Path(__file__).resolve()
REAL = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or HERE.parents[3] / "shared" / "data")


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (REAL / "gsm8k").is_dir():
        pytest.skip(f"no real files: LOOPBENCH_SHARED_DATA is not set and {REAL} is not there")
    monkeypatch.setenv("LOOPBENCH_DATA", str(REAL))
    return REAL


@pytest.mark.parametrize("name", ["quickstart", "smoke", "claims", "papers", "engines"])
def test_experiments_of_the_pocket_world(name: str) -> None:
    experiment = config.load(name, registry)
    assert experiment.resolved["experiment"] == name


METHODS = ("magpie", "ifd", "spin", "realign", "lab")


def test_every_method_makes_two_claims_at_least_over_three_seeds() -> None:
    claims = config.load("claims", registry)
    counts = Counter(claim.id.partition("-")[0] for claim in claims.claims)
    assert all(counts[method] >= 2 for method in METHODS), counts
    assert len(claims.seeds) >= 3
    assert all(claim.source for claim in claims.claims)
    finds = [claim for claim in claims.claims if isinstance(claim, ScorerClaim)]
    (scored,) = {claim.recipe for claim in finds}
    blocks = [step.block(1) for step in claims.recipe(str(scored)).steps if step.verb == "score"]
    columns = {name for block in blocks for name in block.columns()}
    assert {"ifd", "ira", "perplexity", "length", "distance", "rating"} <= columns


def test_the_grid_of_the_papers_has_every_method_with_a_control_arm_and_one_budget() -> None:
    papers = config.load("papers", registry)
    names = {recipe.name for recipe in papers.recipes}
    for method in METHODS:
        assert len({name for name in names if name.partition("-")[0] == method}) >= 2, method
    blocks = {recipe.name: [step.block(1).name for step in recipe.steps] for recipe in papers.recipes}
    full, cherry = blocks["magpie-full"], blocks["ifd-cherry"]
    assert {"neighbours", "tag", "magpie_filter"} <= {*full}, "tags, neighbours, filter and the longest"
    assert cherry.index("kmeans") < cherry.index("sft") < cherry.index("ifd"), "clusters and a pre-experienced model"
    assert papers.budget is not None
    assert papers.budget.train_tokens
    assert len(papers.seeds) >= 3


def test_the_quickstart_is_the_one_that_is_documented() -> None:
    quickstart = config.load("quickstart", registry)
    assert [recipe.name for recipe in quickstart.recipes] == ["all-data", "random-10", "ifd-10", "magpie"]
    assert quickstart.baseline == "random-10"
    assert {recipe.loop.iterations for recipe in quickstart.recipes} == {2}


def test_the_smoke_experiment_has_every_kind_of_step() -> None:
    smoke = config.load("smoke", registry)
    verbs = {step.verb for recipe in smoke.recipes for step in recipe.steps}
    assert verbs == {"synthesize", "score", "select", "pair", "finetune"}


def test_the_engines_preset_is_one_recipe_by_three_engines() -> None:
    engines = config.load("engines", registry)
    arms = {recipe.name: [step.verb for step in recipe.steps] for recipe in engines.recipes}
    assert list(arms) == ["by-transformers", "by-vllm", "by-server"]
    for arm, engine in zip(arms, ("transformers", "vllm", "openai"), strict=True):
        assert arms[arm] == ["synthesize", "score", "select", "finetune"]
        roles = {role for step in engines.recipe(arm).steps for role in step.block(1).roles().values()} - {"current"}
        assert {engines.models[role].engine for role in roles} == {engine}, arm
    assert len(engines.seeds) >= 3


ROLES = dict.fromkeys(
    ("teacher", "tagger", "guard", "reward", "preference_reward", "classifier", "rewriter"), "pocket/chat"
) | {"student": "pocket/base", "weak": "pocket/base", "embedder": "hashed", "judge": "pocket/oracle"}
SOURCES = dict.fromkeys(("pool", "foundational"), "pocket/clean") | dict.fromkeys(
    ("documents", "taxonomy"), "pocket/taxonomy"
)
SOURCES["labelled"] = "pocket/labelled"


@pytest.mark.parametrize("name", config.names("recipes"))
def test_every_recipe_fits_the_pocket_models(name: str, tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        f"experiment: one\nmodels: {{{', '.join(f'{role}: {model}' for role, model in ROLES.items())}}}\n"
        f"data: {{{', '.join(f'{role}: {source}' for role, source in SOURCES.items())}}}\n"
        f"recipes: [{name}]\nsuites: [pocket]\n"
    )
    assert config.load(file, registry).recipe(name).steps


def test_spin_trains_as_in_its_paper_whatever_the_experiment_says(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "experiment: one\nmodels: {student: pocket/base, judge: pocket/oracle}\ndata: {pool: pocket/clean}\n"
        "recipes: [spin-paper]\nsuites: [pocket]\n"
        "train: {learning_rate: 1e-3, epochs: 3, max_length: 512, batch_size: 4, logging_steps: 5}\n"
    )
    blocks = [config.load(file, registry).recipe("spin-paper").steps[-1].block(i) for i in (1, 2, 3, 4)]
    assert [block.learning_rate for block in blocks] == [5e-7, 5e-7, 1e-7, 1e-7]  # arXiv 2401.01335, App. B.1
    assert [block.beta for block in blocks] == [0.1, 0.1, 0.1, 5]
    assert {(block.epochs, block.optim, block.weight_decay, block.warmup_steps) for block in blocks} == {
        (2, "rmsprop", 0.0, 0.1)
    }
    assert {block.batch_size * block.gradient_accumulation_steps for block in blocks} == {64}
    assert {block.max_length for block in blocks} == {2048}
    assert {block.logging_steps for block in blocks} == {5}, "what the recipe leaves open is the experiment's"
    (one,) = {
        b.learning_rate
        for b in config.load(file, registry, ["spin-paper.dpo.learning_rate=1e-4"]).recipes[0].steps[-1].blocks
    }
    assert one == 1e-4


def test_all_data_costs_no_more_than_its_rows() -> None:
    loop = config.load("quickstart", registry).recipe("all-data").loop
    assert (loop.iterations, loop.start_from, loop.data) == (2, "previous", "new")


def test_real_data_reads_whole_item_sets_and_keeps_their_prompts_out_of_the_pool(real: Path) -> None:
    experiment = config.load("real-data", registry)
    rows = list(load(experiment.data["pool"]))
    kept = [row for row in rows if isinstance(row, Example)]
    assert len(kept) == 3000
    assert {row.reason for row in rows if isinstance(row, Dropped)} <= {
        "no answer",
        "prompt of alpaca-eval",
        "prompt of mt-bench",
    }
    suites = {suite.name: len(suite.block.items("test")) for suite in experiment.suites}
    assert suites == {"gsm8k": 1319, "alpaca-eval": 805, "mt-bench": 80}
    assert all(suite.judge is None or suite.judge.stand_in for suite in experiment.suites)


def test_dev_problems_are_those_that_no_pool_has(real: Path) -> None:
    train, dev, test = (config.load_dataset(f"gsm8k-{part}", registry) for part in ("train", "dev", "test"))
    prompts = [{prompt_text(row) for row in load(part) if isinstance(row, Example)} for part in (train, dev, test)]
    assert [len(part) for part in prompts] == [6973, 500, 1319]
    assert not (prompts[0] & prompts[1])
    assert not (prompts[0] | prompts[1]) & prompts[2]


def test_the_dev_split_of_the_suite_is_the_withheld_part(real: Path) -> None:
    suite, dev = config.load_suite("gsm8k", registry), config.load_dataset("gsm8k-dev", registry)
    texts = {prompt_text(row) for row in load(dev) if isinstance(row, Example)}
    items = suite.block.items("dev")
    assert len(items) == 500
    assert {text for text in texts if any(text in item.turns[-1] for item in items)} == texts


def test_the_alpaca_rows_without_an_answer_are_counted(real: Path) -> None:
    rows = list(load(config.load_dataset("alpaca", registry)))
    assert sum(isinstance(row, Example) for row in rows) == 49_975
    assert [row.reason for row in rows if isinstance(row, Dropped)] == ["no answer"] * 27
