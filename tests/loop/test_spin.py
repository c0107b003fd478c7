"""Rounds of self-play as planned and as run: which pairs, which reference, what is reported, and when they stop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import api, config
from harness.analysis.grid import read_grid
from harness.analysis.rounds import rounds
from harness.blocks import registry
from harness.config.single import load_dataset
from harness.errors import ConfigError
from harness.loop.apply import apply
from harness.loop.plan import Plan
from harness.loop.stage import Stage
from harness.records import table
from harness.records.tokenizer import load_tokenizer
from harness.select.gold_vs_self import GoldVsSelf
from harness.store.home import Home
from harness.tracking import points

from .conftest import Make
from .test_plan import SPIN, one

ARMS = ("spin", "spin-sft-epoch", "spin-longer-round-0")
EXPERIMENT = """
experiment: tiny
models: {student: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/clean, options: {rows: 40}}}
suites: [{use: pocket, count: 4, dev_count: 4, max_tokens: 8}]
train: {learning_rate: 2e-3, epochs: 1}
leaks: {policy: allow}
"""
PRESENT = ("models.student=pocket/chat", "models.judge=pocket/oracle", "data.pool=pocket/clean", "suites=[pocket]")
"""What the paper's experiment needs, of what is here."""


def planned(folder: Path, *recipes: str, overrides: tuple[str, ...] = ()) -> Plan:
    file = folder / "tiny.yaml"
    file.write_text(EXPERIMENT + f"recipes: [{', '.join(recipes)}]\nbaseline: {recipes[0]}\n")
    return api.plan(str(file), overrides)


def steps(plan: Plan, recipe: str, name: str) -> dict[int, Stage]:
    """Iteration -> the stage of a step there."""
    (cell,) = [cell for cell in plan.cells if cell.recipe.split("[")[0] == recipe]
    return {turn.iteration: plan.stages[turn.steps[name]] for turn in cell.turns if name in turn.steps}


def keys(stage: Stage) -> list[str]:
    return [source.key for source in stage.inputs]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("{window: 2}", {2: [2], 3: [2, 3], 4: [3, 4]}),
        ("new", {2: [2], 3: [3], 4: [4]}),
        ("accumulate", {2: [2], 3: [2, 3], 4: [2, 3, 4]}),
    ],
)
def test_a_round_trains_on_the_pairs_of_the_latest_rounds(
    tmp_path: Path, window: str, expected: dict[int, list[int]]
) -> None:
    plan = planned(tmp_path, "spin", overrides=(f"spin.loop.data={window}",))
    pairs, dpo = steps(plan, "spin", "pairs"), steps(plan, "spin", "dpo")
    assert {turn: keys(stage) for turn, stage in dpo.items()} == {
        turn: [pairs[i].key for i in turns] for turn, turns in expected.items()
    }


def test_the_window_is_the_documented_shape(make: Make) -> None:
    """`data: {window: 2}` and `from: [pairs, pairs@previous]` train on the same rows."""
    other = SPIN.replace("from: [pairs, pairs@previous], ", "").replace("previous}", "previous, data: {window: 2}}")
    assert "pairs@previous" not in other
    for turn in (1, 2, 3):
        shape, window = (one(make(text), f"spin i{turn} dpo") for text in (SPIN, other))
        if turn < 3:  # the third starts from the second, whose rows came in another order
            assert sorted(keys(shape)) == sorted(keys(window))
        assert len(keys(shape)) == len(keys(window)) == min(turn, 2)


def test_each_round_answers_all_prompts_with_the_model_that_is_its_reference(tmp_path: Path) -> None:
    plan = planned(tmp_path, "spin")
    sft, respond, dpo = (steps(plan, "spin", name) for name in ("sft", "respond", "dpo"))
    assert (list(sft), list(respond), list(dpo)) == ([1], [2, 3, 4], [2, 3, 4])
    before = {2: sft[1].key, 3: dpo[2].key, 4: dpo[3].key}
    for turn, start in before.items():
        assert dpo[turn].models[dpo[turn].roles["start"]].stage == start
        assert dpo[turn].models[dpo[turn].roles["reference"]].stage == start
        assert respond[turn].models[respond[turn].roles["model"]].stage == start
    (pool,) = {tuple(stage.inputs) for stage in respond.values()}
    assert pool[0].slice is None, "the same prompts in every round"


def test_the_controls_begin_as_spin_does_and_train_as_often(tmp_path: Path) -> None:
    plan = planned(tmp_path, *ARMS, overrides=("budget={train_tokens: 40k}",))
    first = {steps(plan, arm, name)[1].key for arm, name in zip(ARMS, ("sft", "sft", "tuned"), strict=True)}
    assert len(first) == 1, "one stage, shared"
    for arm in ARMS:
        (cell,) = [cell for cell in plan.cells if cell.recipe == arm]
        trained = [[plan.stages[key].options()["train_tokens"] for key in turn.train] for turn in cell.turns]
        assert trained == [[10_000]] * 4


def test_the_longer_round_0_never_generates_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, "spin-longer-round-0")
    tuned, pairs, dpo = (steps(plan, "spin-longer-round-0", name) for name in ("tuned", "pairs", "dpo"))
    assert list(pairs) == [1]
    assert {tuple(keys(stage)) for stage in dpo.values()} == {(pairs[1].key,)}
    assert {stage.models[stage.roles["reference"]].stage for stage in dpo.values()} == {tuned[1].key}
    assert dpo[3].models[dpo[3].roles["start"]].stage == dpo[2].key


def test_the_schedules_are_the_papers(tmp_path: Path) -> None:
    plan = planned(tmp_path, "spin", "spin-paper", overrides=("spin.loop.iterations=5",))
    ours = [stage.options() for stage in steps(plan, "spin", "dpo").values()]
    paper = [stage.options() for stage in steps(plan, "spin-paper", "dpo").values()]
    assert [o["beta"] for o in ours] == [o["beta"] for o in paper] == [0.1, 0.1, 0.1, 5]
    assert [o["learning_rate"] for o in paper] == [5e-7, 5e-7, 1e-7, 1e-7]
    assert [o["learning_rate"] / p["learning_rate"] for o, p in zip(ours, paper, strict=True)] == pytest.approx(
        [100] * 4
    )
    for name in ("epochs", "optim", "weight_decay", "warmup_steps", "loss_type"):
        assert {o[name] for o in ours} == {p[name] for p in paper}
    respond = steps(plan, "spin-paper", "respond")[1].options()
    assert (respond["temperature"], respond["top_p"], respond["max_tokens"]) == (1.0, 1.0, 256)
    assert respond["template"] is None, "one template for sampling and training"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("from: pool,", "from: pool, only: sometimes,", "only: should be first (iteration 1) or later"),
        ("iterations: 3", "iterations: 1", "the loop has one iteration: the step would never run"),
        (
            "[pairs, pairs@previous]",
            "pairs",
            "from: pairs is made in later iterations only, and this step runs in others",
        ),
    ],
)
def test_a_step_that_could_never_run_is_a_mistake(make: Make, old: str, new: str, message: str) -> None:
    text = SPIN.replace("as: pairs}", "as: pairs, only: later}")
    with pytest.raises(ConfigError) as found:
        make(text.replace(old, new))
    assert message in str(found.value)


def test_a_model_or_source_that_is_not_there_in_each_iteration_is_a_mistake(make: Make) -> None:
    model = "  - {finetune: sft, as: tuned, only: later}\n  - {synthesize: respond, from: pool, model: tuned}\n"
    rows = "  - {select: sample, keep: 4, as: few, only: first}\n  - {score: classify, labelled: few, column: task}\n"
    for steps_, message in (
        (model, "model: tuned is trained in later iterations only, and this step runs in the first too"),
        (rows, "labelled: few is made in the first iteration only, and this step runs in others too"),
    ):
        with pytest.raises(ConfigError) as found:
            make(f"recipe: gap\nloop: {{iterations: 2}}\nsteps:\n{steps_}  - {{finetune: sft}}\n")
        assert message in str(found.value)


def test_the_released_codes_template_can_be_set_as_the_recipe_says(tmp_path: Path) -> None:
    recipe = Path(str(config.load("paper-spin", registry, PRESENT).recipe("spin-paper").path)).read_text()
    (setting,) = [line.strip("# '\n") for line in recipe.splitlines() if "respond.template" in line]
    plan = planned(tmp_path, "spin-paper", overrides=(setting,))
    assert steps(plan, "spin-paper", "respond")[1].options()["template"] == (
        "### Instruction: {prompt}\n\n### Response: "
    )


def test_the_longer_control_follows_to_the_papers_fourth_round(tmp_path: Path) -> None:
    plan = planned(tmp_path, *ARMS, overrides=tuple(f"{arm}.loop.iterations=5" for arm in ARMS))
    assert [len(cell.turns) for cell in plan.cells] == [5, 5, 5]


def test_a_round_whose_answers_all_equal_the_data_leaves_no_pair_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "two"}]
    file.write_text("".join(json.dumps({"messages": turns, "parent_answer": "two"}) + "\n" for _ in range(3)))
    done = apply(GoldVsSelf(), load_dataset(file, registry), None, 0, tmp_path / "home")
    assert (done.rows, done.reasons) == ([], {"identical to gold": 3})


def report(grid: Any, key: str) -> Mapping[str, Any]:
    manifest = grid.manifest(key)
    assert manifest is not None
    found: Mapping[str, Any] = manifest["report"]
    return found


@pytest.mark.slow
def test_two_rounds_run_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    changes = ("spin.loop.iterations=3", "spin.respond.max_tokens=12")
    plan = planned(tmp_path, "spin", overrides=changes)
    assert api.run(plan, home=Home(tmp_path / "home"), workers=1).failed == {}
    grid = read_grid(tmp_path / "home", "tiny")
    special = load_tokenizer(Path(config.load(str(tmp_path / "tiny.yaml"), registry).models["student"].path or ""))
    (cell,) = grid.cells
    for turn in cell.turns[1:]:
        pairs = list(table.read(grid.store.path("rows", turn.steps["pairs"]) / "rows.parquet"))
        assert len({row.id for row in pairs}) == len(pairs) <= 40, "no answer is there twice"
        assert not [row for row in pairs if any(mark in (row.rejected or "") for mark in special.all_special_tokens)]
        assert any(row.fields.get("rejected_cut") for row in pairs), "12 tokens cut some answers"
        assert {"distance", "equal answers", "own words", "gold words"} <= report(grid, turn.steps["pairs"])[
            "figures"
        ].keys()
        trained = report(grid, turn.steps["dpo"])
        assert trained["first_loss"] == pytest.approx(trained["figures"]["loss/expected"], abs=1e-5)
        assert trained["counts"]["cut before, without an end token"] > 0
        names = {point.key for point in points.curves("dpo", 0, grid.manifest(turn.steps["dpo"]) or {})}
        assert {f"train/dpo/{n}" for n in ("rewards/margins", "logps/chosen", "logps/rejected", "loss")} <= names
        names = {point.key for point in points.rows("pairs", 2, grid.manifest(turn.steps["pairs"]) or {})}
        assert "data/pairs/distance" in names
    one_, two, three = rounds(tmp_path / "home", "tiny")
    assert "distance" not in one_.values
    assert three.values["rows"] > two.values["rows"], "two rounds of pairs"
    assert {
        "last rewards/margins",
        "last logps/chosen",
        "last logps/rejected",
        "test",
        "test gain",
    } <= two.values.keys()
    again = planned(tmp_path, "spin", overrides=changes)
    assert set(again.stages) == set(plan.stages)
    assert all(grid.manifest(key) for key in again.stages), "a second run finds everything done"


def test_the_papers_experiment_is_planned_without_its_files() -> None:
    """Its model and suites are not here; what does not depend on them is checked, and its forecast made."""
    plan = api.plan("paper-spin", PRESENT)
    assert list(steps(plan, "spin-paper", "dpo")) == [1, 2, 3, 4]
    assert [len(stage.inputs) for stage in steps(plan, "spin-paper", "dpo").values()] == [1, 2, 2, 2]
    assert steps(plan, "sft-once-more", "sft")[1].options()["epochs"] == 1
    longer, round_0 = (steps(plan, arm, "dpo")[1] for arm in ("longer-round-0", "spin-paper"))
    assert keys(longer) == keys(round_0), "the pairs of round 0, made once for both"
    assert longer.options()["epochs"] == 5
    assert longer.options() | {"epochs": 2} == round_0.options(), "nothing else differs"


@pytest.mark.parametrize(
    ("role", "message"),
    [("judge", "'judge' is bound to a programmatic judge"), ("pairs", "no model is bound to the role 'pairs'")],
)
def test_a_reference_that_is_no_model_is_refused_before_anything_runs(make: Make, role: str, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        make(SPIN.replace("reference: start", f"reference: {role}"))
    assert message in str(found.value)
    assert "small.yaml:" in str(found.value)


@pytest.mark.slow
@pytest.mark.parametrize("on_stop", ["keep_start", "report"])
def test_a_round_without_a_pair_ends_as_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_stop: str
) -> None:
    """The pool's rows carry an equal answer already, as a model's would that has become the data."""
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    turns = [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "two"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns, "parent_answer": "two"}) + "\n")
    text = EXPERIMENT.replace("{use: pocket/clean, options: {rows: 40}}", "rows.jsonl").replace("allow", "drop")
    dpo = f"{{finetune: dpo, on_stop: {on_stop}}}"
    (tmp_path / "tiny.yaml").write_text(
        f"{text}baseline: one\nrecipes: [{{recipe: one, steps: [{{pair: gold_vs_self, as: pairs}}, {dpo}]}}]\n"
    )
    plan = api.plan(str(tmp_path / "tiny.yaml"))
    done = api.run(plan, home=Home(tmp_path / "home"), workers=1)
    key = plan.cells[0].turns[0].steps["dpo"]
    if on_stop == "report":
        assert "answers all equal the data's" in done.failed[key]
        return
    assert not done.failed
    grid = read_grid(tmp_path / "home", "tiny")
    assert report(grid, key)["notes"]["stop"].startswith("stop: no pair to train on")
    assert rounds(tmp_path / "home", "tiny")[0].stop[0].startswith("1 of 1 trainings say stop: no pair")


def test_the_control_of_more_epochs_leaves_the_same_prompts_out(tmp_path: Path) -> None:
    """The rounds hold a tenth of the prompts out; the epochs that replace them must not train on more."""
    plan = planned(tmp_path, "spin", "spin-sft-epoch")
    held, more = steps(plan, "spin-sft-epoch", "same-prompts"), steps(plan, "spin-sft-epoch", "once-more")
    rounds_ = steps(plan, "spin", "dpo")
    assert set(more) == set(rounds_) == {2, 3, 4}
    for turn, stage in more.items():
        assert keys(stage) == [held[turn].key]
        share, held_out = getattr(held[turn].block, "share"), getattr(rounds_[turn].block, "held_out")  # noqa: B009
        assert share == held_out is not None
