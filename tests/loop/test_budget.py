"""`budget: {train_tokens: n}`: every cell trains on as many tokens, however many trainings it has."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.loop.grid import grid_document
from harness.loop.plan import Plan

from .conftest import Make

ONE = """
recipe: one
loop: {iterations: 2}
steps:
  - {finetune: sft}
"""
TWO = """
recipe: two
loop: {iterations: 3}
steps:
  - {finetune: sft, as: filtered}
  - {finetune: sft, start: student}
"""


def budgets(plan: Plan, recipe: str) -> list[int]:
    (cell,) = [cell for cell in plan.cells if cell.recipe == recipe]
    return [plan.stages[key].options()["train_tokens"] for turn in cell.turns for key in turn.train]


def test_the_tokens_of_a_cell_are_divided_over_its_trainings(make: Make) -> None:
    plan = make(ONE, TWO, overrides=("budget={train_tokens: 12k}",))
    assert budgets(plan, "one") == [6_000] * 2
    assert budgets(plan, "two") == [2_000] * 6
    assert grid_document(plan)["resolved"]["budget"] == {"train_tokens": 12_000}


def test_a_budget_is_part_of_what_a_training_produces(make: Make) -> None:
    free, bound = make(ONE), make(ONE, overrides=("budget={train_tokens: 12000}",))
    assert not set(free.cells[0].turns[0].train) & set(bound.cells[0].turns[0].train)
    assert budgets(free, "one") == [None, None]


@pytest.mark.parametrize(
    ("step", "budget", "message"),
    [
        ("max_steps: 5", "12k", "budget: the step sft of one sets max_steps, and both would say where training ends"),
        (
            "train_tokens: 5",
            "12k",
            "budget: the step sft of one sets train_tokens itself, and the budget gives it 6,000",
        ),
        ("epochs: 2", "1", "budget: 1 training tokens are too few for the 6 trainings of a cell of two"),
    ],
)
def test_what_cannot_be_kept_is_a_mistake(make: Make, step: str, budget: str, message: str) -> None:
    recipe = ONE.replace("finetune: sft", f"finetune: sft, {step}")
    with pytest.raises(ConfigError) as found:
        make(recipe, TWO, overrides=(f"budget={{train_tokens: {budget}}}",))
    assert message in str(found.value)
    assert "small.yaml" in str(found.value) or "--set" in str(found.value)


def test_a_recipe_may_state_what_the_budget_gives_it(make: Make) -> None:
    """So that a resolved experiment can be read again."""
    stated = ONE.replace("finetune: sft", "finetune: sft, train_tokens: 6000")
    assert budgets(make(stated, overrides=("budget={train_tokens: 12k}",)), "one") == [6_000] * 2


def test_a_training_with_tokens_of_its_own_keeps_them_and_the_others_share_the_rest(make: Make) -> None:
    brief = TWO.replace("finetune: sft", "finetune: sft, train_tokens: 500", 1)
    found = budgets(make(brief, overrides=("budget={train_tokens: 12k}",)), "two")
    assert sum(found) == 12_000
    assert sorted(set(found)) == [500, 3_500]
    with pytest.raises(ConfigError, match=r"too few for the 6 trainings of a cell of two \(its steps .* take 1,500\)"):
        make(brief, overrides=("budget={train_tokens: 1500}",))
