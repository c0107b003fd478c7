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
from harness.select.reward import REFUSED, columns_of, value_of

Found = tuple[float | None, str | None]
"""A reward, or why there is none."""
Text = Annotated[str, StringConstraints(min_length=1)]


class RewardDifference(Scorer):
    """Scores `reward`, `reward_base` and `reward_difference` = reward - reward_base, in this one pass.

    The base model answers the prompt by examples in its context alone (URIAL, 2312.01552): the entry `prompt` of its
    pack with {question}, continued as plain text up to one of `stop`. A difference below 0 says that alignment data of
    this kind would make the model worse. `field:base_answer` keeps its answer. No public code computes this score, and
    the paper names no version of URIAL's prompt; ours is in our own words. A missing reward makes the difference
    missing; `tag:reward.problem`, `tag:reward_base.problem` and `tag:reward_difference.problem` say why: no answer of
    the row, an empty one of the base model, or the words with which a model refused.
    """

    name: ClassVar[str] = "reward_difference"
    version: ClassVar[int] = 2
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
        """Both rewards and their difference, why they are missing, and the base model's answer."""
        scores = ("reward", "reward_base", "reward_difference")
        return (*(name for score in scores for name in (score, f"tag:{score}.problem")), "field:base_answer")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """First the base model's answers, then all rewards."""
        said = yield Tolerant(self._ask(row, context) for row in batch)
        bases = [_answer(reply) for reply in said]
        wanted: list[Request] = []
        for row, (base, _) in zip(batch, bases, strict=True):
            wanted += [self._reward(row, text) for text in (row.answer, base) if text]
        rewards = iter((yield Tolerant(wanted)))
        own: list[Found] = []
        other: list[Found] = []
        for row, (base, why) in zip(batch, bases, strict=True):
            own.append(value_of(next(rewards)) if row.answer else (None, "no answer"))
            other.append(value_of(next(rewards)) if base else (None, why))
        differences = [_difference(one, two) for one, two in zip(own, other, strict=True)]
        out: dict[str, Any] = columns_of("reward", own, context) | columns_of("reward_base", other, context)
        out |= columns_of("reward_difference", differences, context)
        return out | {"field:base_answer": [base for base, _ in bases]}

    def _ask(self, row: Example, context: Context) -> Ask:
        text = fill(
            context.prompts, self.prompt, f"reward_difference with `prompt: {self.prompt}`", question=prompt_text(row)
        )
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature, stop=self.stop, ends="text")
        seed = seed_of(context.seed, context.block, context.iteration, row.id)
        return Ask(model=self.base, messages=row.prompt, text=text, sampling=sampling, fixed_seed=seed)

    def _reward(self, row: Example, answer: str) -> Reward:
        return Reward(model=self.model, messages=(*row.prompt, Message(role="assistant", content=answer)))


def _answer(reply: Reply) -> tuple[str | None, str | None]:
    """The base model's answer, or why there is none."""
    if isinstance(reply, Exception):
        return None, REFUSED.format(reply)
    text = reply[0].text.strip()
    return (text, None) if text else (None, "empty answer")


def _difference(own: Found, other: Found) -> Found:
    if own[0] is not None and other[0] is not None:
        return own[0] - other[0], None
    why = [own[1], other[1] and f"of the base model: {other[1]}"]
    return None, "; ".join(filter(None, why))
