"""`reward_difference`: how much better a row's answer is than what the base model says to the same prompt."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import StringConstraints

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Ask, Columns, Context, Reply, Request, Reward, Sampling, Scorer, Tolerant
from harness.blocks.prompts import fill
from harness.engines.base import Capability
from harness.records.example import Example, Message, prompt_text
from harness.records.hashing import seed_of
from harness.records.values import Count
from harness.select.reward import columns_of, value_of

Text = Annotated[str, StringConstraints(min_length=1)]


class RewardDifference(Scorer):
    """Scores `reward`, `reward_base` and `reward_difference` = reward - reward_base, in this one pass.

    The base model answers the prompt by examples in its context alone (URIAL, 2312.01552): the entry `prompt` of its
    pack with {question}, continued as plain text up to one of `stop`. A difference below 0 says that alignment data of
    this kind would make the model worse. `field:base_answer` keeps its answer. No public code computes this score, and
    the paper names no version of URIAL's prompt; ours is in our own words. Where the base model's answer is missing or
    empty, so is the difference (`tag:reward_difference.problem`).
    """

    name: ClassVar[str] = "reward_difference"
    reads_prompts: ClassVar[bool] = True

    base: ModelRole = identity("student", description="The base model that is to be tuned.")
    model: ModelRole = identity("reward", description="The reward model.")
    prompt: str = identity("urial", description="Entry of the base model's prompt pack.", source="2406.08464 §3.2")
    stop: tuple[Text, ...] = identity(("\n# ",), description="Texts that end the base model's answer.")
    max_tokens: Count = identity(1024, description="Cap on the base model's answer.", unit="tokens")
    temperature: float = identity(0.0, ge=0, description="Of the base model's answer.")

    def is_random(self) -> bool:
        """Only sampled answers depend on the seed."""
        return self.temperature > 0

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A model that continues text, and one with one logit."""
        return {"base": frozenset({"continue"}), "model": frozenset({"reward"})}

    def columns(self) -> tuple[str, ...]:
        """Both rewards, their difference, why it is missing, and the base model's answer."""
        difference = ("reward_difference", "tag:reward_difference.problem")
        return ("reward", "tag:reward.problem", "reward_base", *difference, "field:base_answer")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """First the base model's answers, then all rewards."""
        said = yield Tolerant(self._ask(row, context) for row in batch)
        bases = [None if isinstance(reply, Exception) else reply[0].text.strip() or None for reply in said]
        wanted: list[Request] = []
        for row, base in zip(batch, bases, strict=True):
            wanted += [self._reward(row, text) for text in (row.answer, base) if text]
        rewards = iter((yield Tolerant(wanted)))
        own: list[tuple[float | None, str | None]] = []
        other: list[tuple[float | None, str | None]] = []
        for row, base in zip(batch, bases, strict=True):
            own.append(value_of(next(rewards)) if row.answer else (None, "no answer"))
            other.append(value_of(next(rewards)) if base else (None, "no answer of the base model"))
        differences = [_difference(one, two) for one, two in zip(own, other, strict=True)]
        out: dict[str, Any] = columns_of("reward", own, context)
        out |= columns_of("reward_difference", differences, context)
        return out | {"reward_base": [value for value, _ in other], "field:base_answer": bases}

    def _ask(self, row: Example, context: Context) -> Ask:
        text = fill(
            context.prompts, self.prompt, f"reward_difference with `prompt: {self.prompt}`", question=prompt_text(row)
        )
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature, stop=self.stop, ends="text")
        seed = seed_of(context.seed, context.block, context.iteration, row.id)
        return Ask(model=self.base, messages=row.prompt, text=text, sampling=sampling, fixed_seed=seed)

    def _reward(self, row: Example, answer: str) -> Reward:
        return Reward(model=self.model, messages=(*row.prompt, Message(role="assistant", content=answer)))


def _difference(
    own: tuple[float | None, str | None], other: tuple[float | None, str | None]
) -> tuple[float | None, str | None]:
    if own[0] is None or other[0] is None:
        return None, own[1] or other[1]
    return own[0] - other[0], None
