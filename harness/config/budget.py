"""`budget:` of an experiment: every cell trains on the same number of tokens, whatever its recipe selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.config.document import Node, Problems
from harness.config.model import Budget, Recipe, Step

TOKENS = "train_tokens"


def equalise(recipes: Sequence[Recipe], budget: Budget | None, root: Node, problems: Problems) -> tuple[Recipe, ...]:
    """The recipes with `train_tokens` set in each finetune step; epochs then follow from it.

    A cell's tokens are divided evenly over all its trainings (iterations times finetune steps), so that arms with
    different numbers of trainings still train on equally many tokens. Tokens are those that pass through the trained
    model, prompts included: what `compare` prints as trained.
    """
    if budget is None or budget.train_tokens is None:
        return tuple(recipes)
    return tuple(_equalised(recipe, budget.train_tokens, root, problems) for recipe in recipes)


def _equalised(recipe: Recipe, tokens: int, root: Node, problems: Problems) -> Recipe:
    trainings = recipe.loop.iterations * sum(step.verb == "finetune" for step in recipe.steps)
    if not trainings:
        return recipe
    share = round(tokens / trainings)
    if not share:
        problems.add(
            f"budget: {tokens} training tokens are too few for the {trainings} trainings of a cell of {recipe.name}",
            root.mark("budget", TOKENS),
        )
    steps = tuple(_with_share(step, share, recipe.name, root, problems) for step in recipe.steps)
    return replace(recipe, steps=steps)


def _with_share(step: Step, share: int, recipe: str, root: Node, problems: Problems) -> Step:
    if step.verb != "finetune":
        return step
    why = next((text for block in step.blocks if (text := _conflict(block, share)) is not None), None)
    if why is not None:
        problems.add(f"budget: the step {step.name} of {recipe} {why}", root.mark("budget", TOKENS))
        return step
    return replace(step, blocks=tuple(block.model_copy(update={TOKENS: share}) for block in step.blocks))


def _conflict(block: Any, share: int) -> str | None:
    """Why a finetune block cannot keep a budget; None where it can."""
    if TOKENS not in type(block).model_fields:
        return f"cannot keep it: {block.name} has no option {TOKENS}"
    if getattr(block, "max_steps", None) is not None:
        return "sets max_steps, and both would say where training ends: drop one of them"
    given = getattr(block, TOKENS)
    return (
        None if given in (None, share) else f"sets {TOKENS} itself, and the budget gives it {share:,}: drop one of them"
    )
