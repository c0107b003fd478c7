"""`reward`: how a reward model values each row's answer."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, ClassVar

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Reward, Scorer, Tolerant
from harness.engines.base import Capability
from harness.records.example import Example

REFUSED = "refused: {}"


class RewardScore(Scorer):
    """Score `reward`: the one logit of a sequence-classification model on the rendered conversation.

    A row without an answer, or longer than the model's context, has none; the tag `reward.problem` says why. Rewards of
    two models are not comparable: thresholds belong to a model (Magpie's -12 and -10 to FsfairX-LLaMA3-RM-v0.1).
    """

    name: ClassVar[str] = "reward"

    model: ModelRole = identity("reward", description="The reward model.")
    column: str = identity("reward", description="Name of the score.", pattern=r"[\w-]+")

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A model with one logit."""
        return {"model": frozenset({"reward"})}

    def columns(self) -> tuple[str, ...]:
        """The score, and why it is missing."""
        return (self.column, f"tag:{self.column}.problem")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """One request per row with an answer, all at once: the engine sorts them by length."""
        asked = [row for row in batch if row.answer]
        replies = iter((yield Tolerant(Reward(model=self.model, messages=row.messages) for row in asked)))
        found = [value_of(next(replies)) if row.answer else (None, "no answer") for row in batch]
        return columns_of(self.column, found, context)


def value_of(reply: Any) -> tuple[float | None, str | None]:
    """The reward, or why there is none."""
    if isinstance(reply, Exception):
        return None, REFUSED.format(reply)
    return float(reply), None


def columns_of(name: str, found: Sequence[tuple[float | None, str | None]], context: Context) -> dict[str, list[Any]]:
    """A score and its problems as columns; problems are counted."""
    missing = sum(problem is not None for _, problem in found)
    if missing:
        context.count(f"{name}: missing", missing)
    return {name: [value for value, _ in found], f"tag:{name}.problem": [problem for _, problem in found]}
