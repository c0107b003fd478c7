"""The plan: shared stages are one stage, keys follow what is produced, dev feeds back and test never does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import ConfigError, UserError
from harness.loop.grid import grid_document
from harness.loop.plan import Plan
from harness.loop.stage import Stage

from .conftest import Make

PICK = """
recipe: pick
loop: {iterations: 2}
steps:
  - {score: ifd, model: student}
  - {select: top, by: ifd, keep: 50%}
  - {finetune: sft}
"""
SPIN = """
recipe: spin
loop: {iterations: 3, start_from: previous}
steps:
  - {synthesize: respond, from: pool, model: start, temperature: 1.0}
  - {pair: gold_vs_self, as: pairs}
  - {finetune: dpo, from: [pairs, pairs@previous], reference: start, beta: {by_iteration: [.1, .1, 5]}}
"""
MAGPIE = """
recipe: magpie
loop: {iterations: 2, data: accumulate}
steps:
  - {synthesize: magpie, model: teacher, rows: 8, focus: feedback}
  - {finetune: sft}
"""


def labelled(plan: Plan, text: str) -> list[Stage]:
    checks = ("leaks", "clean")
    return [s for s in plan.stages.values() if text in s.label and s.action not in checks]


def one(plan: Plan, text: str) -> Stage:
    (stage,) = labelled(plan, text)
    return stage


def test_parents_come_before_children(make: Make) -> None:
    seen: set[str] = set()
    for key, stage in make(PICK, SPIN, MAGPIE).stages.items():
        assert set(stage.parents) <= seen
        seen.add(key)


def test_what_recipes_share_is_one_stage(make: Make) -> None:
    alone = make(PICK)
    both = make(PICK, PICK.replace("recipe: pick", "recipe: same"))
    assert set(both.stages) == set(alone.stages)
    assert len(both.cells) == 2


def test_training_seeds_share_the_data_and_differ_in_the_model(make: Make) -> None:
    plan = make(PICK, overrides=("seeds=3",))
    assert len(labelled(plan, "pick i1 ifd")) == 1
    assert len(labelled(plan, "pick i1 sft")) == 3
    assert len(labelled(plan, "grade untuned")) == 1


def test_a_recipe_that_only_selects_gets_disjoint_slices(make: Make) -> None:
    plan = make(PICK)
    assert one(plan, "pick i1 ifd").inputs[0].slice == (0, 2)
    assert one(plan, "pick i2 ifd").inputs[0].slice == (1, 2)
    assert one(make(SPIN), "spin i2 respond").inputs[0].slice is None


def test_previous_rows_reference_and_beta_follow_the_iteration(make: Make) -> None:
    plan = make(SPIN)
    first, second, third = (one(plan, f"spin i{i} dpo") for i in (1, 2, 3))
    pairs = [one(plan, f"spin i{i} pairs").key for i in (1, 2, 3)]
    assert [i.key for i in first.inputs] == [pairs[0]]
    assert [i.key for i in second.inputs] == [pairs[1], pairs[0]]
    assert third.models["start"].stage == second.key
    assert [stage.options()["beta"] for stage in (first, second, third)] == [0.1, 0.1, 5.0]


def test_accumulated_rows_train_together(make: Make) -> None:
    plan = make(MAGPIE)
    rows = [one(plan, f"magpie i{i} magpie").key for i in (1, 2)]
    assert [i.key for i in one(plan, "magpie i2 sft").inputs] == rows
    assert one(plan, "magpie i2 sft").models["current"].stage is None, "start_from: student"


def test_feedback_reads_dev_and_never_test(make: Make) -> None:
    plan = make(MAGPIE)
    (key,) = one(plan, "magpie i2 magpie").feedback
    assert plan.stages[key].split == "dev"
    test = {k for k, stage in plan.stages.items() if stage.split == "test"}
    assert all(not test & set(stage.parents) or stage.action == "grade" for stage in plan.stages.values())
    assert not labelled(plan, "i2 on pocket dev"), "nobody reads the dev split after the last iteration"


def test_a_recipe_may_call_another_source_its_pool(make: Make) -> None:
    """So recipes of unlike pools stand in one experiment, also the same recipe twice."""
    other = json.dumps({"use": "pocket/clean", "options": {"rows": 16}})
    other_recipe = "recipe: again\nuse: random-10\npool: other"
    plan = make("recipe: first\nuse: random-10", other_recipe, overrides=(f"data.other={other}",))
    read = {cell.recipe: plan.stages[cell.turns[0].stages[0]].inputs[0].key for cell in plan.cells}
    assert plan.stages[read["first"]].data.name == "pool"
    assert plan.stages[read["again"]].data.name == "other"
    with pytest.raises(ConfigError, match='pool: there is no data named "nowhere"'):
        make("recipe: first\nuse: random-10\npool: nowhere")


def test_a_blocks_name_hides_neither_data_nor_a_model_of_that_name(make: Make) -> None:
    other = json.dumps({"use": "pocket/clean", "options": {"rows": 16}})
    steps = (
        "{select: sample, keep: 4}",
        "{synthesize: respond, from: sample, model: teacher}",
        "{finetune: sft}",
        "{synthesize: respond, from: sample, model: sft, temperature: 0.5, as: again}",
        "{finetune: sft, as: last}",
    )
    text = "recipe: names\nsteps:\n" + "".join(f"  - {step}\n" for step in steps)
    plan = make(text, overrides=(f"data.sample={other}", "models.sft=pocket/chat"))
    first, again = one(plan, "names i1 respond"), one(plan, "names i1 again")
    assert {plan.stages[stage.inputs[0].key].data.name for stage in (first, again)} == {"sample"}
    assert again.models["sft"].stage is None, "the model that is bound, not the one that the step before trained"


def test_a_language_model_is_not_called_a_program_where_a_reward_model_is_asked(make: Make) -> None:
    with pytest.raises(UserError, match="for rewards, and pocket/base is a language model .*bind another model folder"):
        make("recipe: rewarded\nsteps:\n  - {score: reward, model: student}\n  - {finetune: sft}\n")


def test_a_block_that_is_there_twice_is_recorded_twice(make: Make) -> None:
    plan = make("recipe: twice\nsteps:\n  - {finetune: sft}\n  - {finetune: sft, epochs: 2}\n")
    (turn,) = plan.cells[0].turns
    assert list(turn.steps) == ["sft", "sft-2"]
    assert tuple(turn.steps.values()) == turn.train


def test_data_seeds_change_what_is_drawn(make: Make) -> None:
    plan = make(MAGPIE, overrides=("data_seeds=2",))
    assert len(labelled(plan, "magpie i1 magpie")) == 2


@pytest.mark.parametrize(
    ("change", "same"),
    [("pick.top.keep=25%", False), ("pick.sft.epochs=2", False), ("pick.sft.logging_steps=7", True)],
)
def test_identity_options_change_keys_and_runtime_options_do_not(make: Make, change: str, same: bool) -> None:
    before, after = make(PICK), make(PICK, overrides=(change,))
    assert (one(before, "pick i1 sft").key == one(after, "pick i1 sft").key) is same
    assert one(before, "pick i1 ifd").key == one(after, "pick i1 ifd").key


def test_every_field_of_a_stage_is_in_its_key_or_known_not_to_be(make: Make) -> None:
    """A new field has to be put on one side."""
    stage = one(make(PICK), "pick i1 sft")
    only_how = {"label", "suite", "data"}  # data enters through `fingerprint`
    through = {"block", "models", "roles"}  # entered through their own identity
    through |= {"leaks", "sources"}  # only where they are set
    named = set(stage.identity()) | {"fingerprint", "inputs"}
    assert set(Stage.__dataclass_fields__) - only_how - through <= named
    assert replace(stage, seed=99).key != stage.key
    assert replace(stage, leaks="a check").key != stage.key
    assert replace(stage, iteration=99).key != stage.key
    assert replace(stage, label="other").key == stage.key


def test_a_suite_that_grades_by_itself_has_no_judge_whatever_is_bound(make: Make, tmp_path: Path) -> None:
    row = json.dumps({"question": "1 + 1 ?", "answer": "1 + 1 = 2\n#### 2"}) + "\n"
    for name in ("test.jsonl", "train.jsonl"):
        (tmp_path / name).write_text(row * 2)
    task = {"suite": "lm_eval", "task": "gsm8k", "fewshot": 0, "test_path": "test.jsonl", "train_path": "train.jsonl"}
    plan = make(PICK, overrides=(f"suites=[{json.dumps(task)}]",))
    assert all(stage.judge is None for stage in plan.stages.values() if stage.action == "grade")
    (suite,) = grid_document(plan)["suites"].values()
    assert (suite["label"], suite["judge"], suite["stand_in"]) == ("", None, False)
