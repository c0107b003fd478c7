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
    different numbers of trainings still train on equally many tokens; a step that sets `train_tokens` itself keeps
    them, and the others divide the rest. Tokens are those that pass through the trained model, prompts included: what
    `compare` prints as trained.
    """
    if budget is None or budget.train_tokens is None:
        return tuple(recipes)
    return tuple(_equalised(recipe, budget.train_tokens, root, problems) for recipe in recipes)


def _equalised(recipe: Recipe, tokens: int, root: Node, problems: Problems) -> Recipe:
    turns = range(1, recipe.loop.iterations + 1)
    every = [step.block(t) for step in recipe.steps if step.verb == "finetune" for t in turns if step.runs(t)]
    if not every:
        return recipe
    own = [given for block in every if (given := getattr(block, TOKENS, None)) is not None]
    open_ = len(every) - len(own)
    share = round((tokens - sum(own)) / open_) if open_ else round(tokens / len(every))
    if share < 1:
        taken = f" (its steps that set {TOKENS} themselves take {sum(own):,})" if own else ""
        problems.add(
            f"budget: {tokens} training tokens are too few for the {len(every)} trainings of a cell of "
            f"{recipe.name}{taken}",
            root.mark("budget", TOKENS),
        )
    # A step's own tokens are part of the budget where another step takes the rest; a resolved recipe states them all.
    kept = bool(open_) or abs(sum(own) - tokens) <= len(every)
    steps = tuple(_with_share(step, share, kept, recipe.name, root, problems) for step in recipe.steps)
    return replace(recipe, steps=steps)


def _with_share(step: Step, share: int, kept: bool, recipe: str, root: Node, problems: Problems) -> Step:
    if step.verb != "finetune":
        return step
    why = next((text for block in step.blocks if (text := _conflict(block, share, kept)) is not None), None)
    if why is not None:
        problems.add(f"budget: the step {step.name} of {recipe} {why}", root.mark("budget", TOKENS))
        return step
    return replace(step, blocks=tuple(_given(block, share) for block in step.blocks))


def _given(block: Any, share: int) -> Any:
    return block if getattr(block, TOKENS) is not None else block.model_copy(update={TOKENS: share})


def _conflict(block: Any, share: int, kept: bool) -> str | None:
    """Why a finetune block cannot keep a budget; None where it can. `kept`: its own tokens may stand."""
    if TOKENS not in type(block).model_fields:
        return f"cannot keep it: {block.name} has no option {TOKENS}"
    if getattr(block, "max_steps", None) is not None:
        return "sets max_steps, and both would say where training ends: drop one of them"
    if getattr(block, TOKENS) in (None, share) or kept:
        return None
    return f"sets {TOKENS} itself, and the budget gives it {share:,}: drop one of them"
