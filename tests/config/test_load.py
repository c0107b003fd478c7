"""What a right configuration becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.blocks.prompts import BUNDLED, load_pack
from harness.config import Source
from harness.config.dump import as_yaml
from harness.config.models import PACKS

if TYPE_CHECKING:
    from .conftest import Project


def test_an_experiment_is_resolved_as_a_whole(project: Project) -> None:
    trial = project.load()
    assert (trial.name, trial.seeds, trial.data_seeds, trial.students) == ("trial", (0, 1, 2), (0,), ("student",))
    assert [recipe.name for recipe in trial.recipes] == ["pick", "chain"]
    assert trial.models["student"].path == str(project.root / "experiments/model")
    assert trial.data["pool"].path == str(project.root / "experiments/rows.jsonl")
    assert trial.suites[0].block.count == 20
    assert trial.suites[0].judge is not None
    assert trial.suites[0].judge.name == "oracle"


def test_steps_hold_one_block_per_iteration(project: Project) -> None:
    chain = project.load().recipe("chain")
    assert chain.loop.iterations == 3
    assert [chain.steps[4].block(i).beta for i in (1, 2, 3)] == [0.1, 0.2, 5]
    assert chain.steps[0].blocks[0] is chain.steps[0].blocks[2]


def test_sources_of_rows(project: Project) -> None:
    steps = project.load().recipe("chain").steps
    assert steps[0].from_ is None
    assert steps[1].from_ == (Source(name="pool", share=0.25), Source(name="made", share=1.0))
    assert steps[3].from_ == (Source(name="kept"), Source(name="pool"))
    assert steps[4].from_ == (Source(name="answers"), Source(name="answers", when="previous"))


def test_training_options_reach_every_finetune_block_and_the_recipe_wins(project: Project) -> None:
    project.replace("experiments/trial.yaml", "epochs: 2}", "epochs: 2, trl: {warmup_steps: 3, seed: 1}}")
    project.replace("experiments/recipes/pick.yaml", "- finetune: sft", "- finetune: sft\n    trl: {seed: 2}")
    trial = project.load()
    pick, chain = trial.recipe("pick").steps[2].block(1), trial.recipe("chain").steps[2].block(1)
    assert (pick.learning_rate, pick.epochs, pick.trl) == (1e-3, 2, {"warmup_steps": 3, "seed": 2})
    assert (chain.learning_rate, chain.epochs) == (1e-3, 5)
    assert trial.recipe("chain").train_overrides == {"tuned": {"epochs": 5}}
    assert trial.recipe("pick").train_overrides == {"sft": {"trl": {"seed": 2}}}


def test_numbers_are_yaml_1_2(project: Project) -> None:
    project.replace("experiments/trial.yaml", "1e-3", "2e-5")
    assert project.load().recipe("pick").steps[2].block(1).learning_rate == 2e-5


def test_vary_adds_cells_and_leaves_out_those_that_are_there(project: Project) -> None:
    project.replace("experiments/trial.yaml", "seeds: 3", "seeds: 3\nvary: {pick.top.keep: [5%, 10%, 7]}")
    trial = project.load()
    assert [recipe.name for recipe in trial.recipes] == ["pick", "chain", "pick[top.keep=5%]", "pick[top.keep=7]"]
    assert trial.recipe("pick[top.keep=7]").steps[1].block(1).keep.count == 7
    assert trial.recipe("pick[top.keep=7]").base == "pick"
    assert trial.recipe("pick").steps[1].block(1).keep.share == 0.1


def test_vary_combines_addresses_of_a_recipe_and_varies_training_for_all(project: Project) -> None:
    vary = "vary: {pick.top.keep: [5%, 20%], pick.sft.epochs: [1, 4], train.learning_rate: [1e-2]}"
    project.replace("experiments/trial.yaml", "seeds: 3", f"seeds: 3\n{vary}")
    trial = project.load()
    assert len(trial.recipes) == 2 + 4 + 1
    both = trial.recipe("pick[top.keep=5%,sft.epochs=4,train.learning_rate=0.01]")
    assert (both.steps[1].block(1).keep.share, both.steps[2].block(1).epochs) == (0.05, 4)
    assert trial.recipe("chain[train.learning_rate=0.01]").steps[2].block(1).learning_rate == 0.01


def test_set_addresses_recipes_suites_and_the_experiment(project: Project) -> None:
    trial = project.load(
        "pick.top.keep=5%", "pick.loop.iterations=1", "chain.tuned.epochs=9", "seeds=[4, 7]", "train.epochs=3",
        "world.count=3", "data.pool=experiments/rows.jsonl", "chain.kept.from=pool",
    )  # fmt: skip
    pick = trial.recipe("pick")
    assert (pick.steps[1].block(1).keep.share, pick.loop.iterations) == (0.05, 1)
    assert pick.steps[2].block(1).epochs == 3
    assert trial.recipe("chain").steps[2].block(1).epochs == 9
    assert trial.recipe("chain").steps[1].from_ == (Source(name="pool"),)
    assert trial.seeds == (4, 7)
    assert trial.suites[0].block.count == 3


def test_the_working_folder_is_what_paths_in_set_start_from(project: Project) -> None:
    project.write("here.jsonl", "{}")
    assert project.load("data.pool=here.jsonl").data["pool"].path == str(project.root / "here.jsonl")


def test_the_record_is_plain_and_holds_no_folder_and_no_secret(project: Project) -> None:
    project.replace(
        "experiments/trial.yaml",
        "teacher: model",
        "teacher: {url: 'https://host/v1', model: big, api_key_env: MY_KEY}",
    )
    resolved = project.load().resolved
    text = json.dumps(resolved)
    assert str(project.root) not in text
    assert resolved["models"]["teacher"]["api_key_env"] == "MY_KEY"
    assert resolved["models"]["student"] == {"path": "model", "engine": "transformers"}
    assert resolved["recipes"][1]["steps"][4]["beta"] == {"by_iteration": [0.1, 0.2, 5.0]}
    assert resolved["recipes"][1]["steps"][1]["from"] == {"pool": 0.25, "made": 1.0}
    assert "learning_rate: 0.001" in as_yaml(resolved)


def test_the_record_is_a_configuration_again(project: Project) -> None:
    first = project.load()
    project.write("experiments/again.yaml", as_yaml(first.resolved))
    again = project.load(name="again")
    assert again.resolved == first.resolved
    assert [recipe.steps[0].blocks for recipe in again.recipes] == [recipe.steps[0].blocks for recipe in first.recipes]


def test_a_server_with_a_tokenizer_and_a_folder_that_is_served_here(project: Project) -> None:
    text = """\
        student: {path: model, engine: openai, concurrency: 8, options: {max_model_len: 256}}
        judge: {url: "http://localhost:1/v1", model: m}
        teacher: {url: "http://localhost:1/v1", model: m, tokenizer: pocket/chat}
        """
    models = "".join(f"  {line.strip()}\n" for line in text.splitlines())
    project.replace(
        "experiments/trial.yaml", "models: {student: model, teacher: model, judge: pocket/oracle}", f"models:\n{models}"
    )
    trial = project.load()
    student, judge, teacher = (trial.models[role] for role in ("student", "judge", "teacher"))
    assert (student.engine, student.url, student.concurrency) == ("openai", None, 8)
    assert (judge.tokenizer, teacher.engine) == (None, "openai")
    assert (Path(teacher.tokenizer or "") / "tokenizer.json").is_file()
    record = trial.resolved["models"]
    assert record["teacher"]["tokenizer"] == "pocket/chat", "no folder of this machine"
    assert record["student"]["engine"] == "openai"


def test_models_of_every_sort(project: Project) -> None:
    text = """\
        student: {scratch: {hidden: 64, vocab: 500}}
        judge: {url: "http://localhost:1/v1", model: m}
        teacher: {path: model, dtype: bfloat16, options: {batch: 4}}
        """
    models = "".join(f"  {line.strip()}\n" for line in text.splitlines())
    project.replace(
        "experiments/trial.yaml", "models: {student: model, teacher: model, judge: pocket/oracle}", f"models:\n{models}"
    )
    trial = project.load()
    student, judge, teacher = (trial.models[role] for role in ("student", "judge", "teacher"))
    assert student.scratch is not None
    assert (student.scratch.hidden, student.scratch.layers, student.engine) == (64, 4, "transformers")
    assert (judge.engine, teacher.engine, teacher.dtype) == ("openai", "transformers", "bfloat16")
    assert trial.suites[0].judge is not None
    assert trial.suites[0].judge.name == "rubric"


def test_a_student_grid(project: Project) -> None:
    project.replace("experiments/trial.yaml", "seeds: 3", "students: [student, teacher]")
    assert project.load().students == ("student", "teacher")


def test_use_lays_changes_over_a_named_file(project: Project) -> None:
    project.write(
        "datasets_cfg/mine.yaml", "dataset: mine\npath: ../experiments/rows.jsonl\nwithhold: {rows: 1, seed: 3}\n"
    )
    project.replace("experiments/trial.yaml", "pool: rows.jsonl", "pool: {use: mine, rows: 5, withhold: {seed: 4}}")
    project.replace("experiments/trial.yaml", "suites: [world]", "suites: [{use: world, name: small, count: 2}, world]")
    trial = project.load()
    pool = trial.data["pool"]
    assert (pool.rows, pool.name) == (5, "pool")
    assert pool.withhold is not None
    assert (pool.withhold.rows, pool.withhold.seed) == (1, 4)
    assert [(suite.name, suite.block.count) for suite in trial.suites] == [("small", 2), ("world", 20)]


def test_a_suite_names_its_judge_and_its_dev_share(project: Project) -> None:
    project.write("evalsuites/world.yaml", "suite: halves\njudge: {judge: oracle, strict: false}\ndev: 20%\n")
    project.replace("experiments/recipes/chain.yaml", "magpie, as", "magpie, focus: feedback, as")
    trial = project.load()
    suite = trial.suite("world")
    assert suite.judge is not None
    assert (suite.judge.strict, suite.block.dev) == (False, 0.2)
    assert trial.resolved["suites"][0]["dev"] == 0.2


def test_a_prompt_pack_is_found_beside_the_yaml_that_names_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("experiments/packs/mine.yaml", "version: 1\nprompts: {rate: 'rate {answer}'}\n")
    project.replace("experiments/trial.yaml", "teacher: model", "teacher: {path: model, prompts: packs/mine.yaml}")
    trial = project.load()
    pack = trial.models["teacher"].prompts
    monkeypatch.chdir(tmp_path.parent)
    assert load_pack(pack).entries["rate"] == "rate {answer}"
    assert trial.resolved["models"]["teacher"]["prompts"] == "packs/mine.yaml", "no folder of a machine in the record"


def test_the_bundled_packs_are_those_that_are_there() -> None:
    assert set(PACKS) == set(BUNDLED)


def test_files_that_options_name_are_found_beside_the_yaml(project: Project, monkeypatch: object) -> None:
    project.write("evalsuites/world.yaml", "suite: world\nfile: items.json\n")
    project.write("evalsuites/items.json", "[]")
    assert project.load().suites[0].block.file == str(project.root / "evalsuites/items.json")


def test_a_path_in_the_record_is_the_written_one(project: Project) -> None:
    project.write("evalsuites/world.yaml", "suite: world\nfile: items.json\n")
    project.write("evalsuites/items.json", "[]")
    assert project.load().resolved["suites"][0]["file"] == "items.json"
