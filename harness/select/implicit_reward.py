"""`implicit_reward`: how much more likely an answer is to a tuned model than to its reference, DPO's reward."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer, Tolerant
from harness.engines.base import Capability
from harness.records.columns import TAG
from harness.records.cut import is_cut
from harness.records.example import Example
from harness.records.turns import answer_ids, common
from harness.records.values import Count
from harness.select._losses import CHAT_LENGTH, NO_ANSWER, refusal
from harness.select._spans import Span, longest

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

NO_PROMPT, NO_FIT = "no prompt", "prompt and answer are longer than max_length or the model's context"

Found = tuple[float | None, str | None]
"""A log-probability, or why there is none."""


class ImplicitReward(Scorer):
    """Column `implicit_reward`: `beta * (logp_model - logp_reference)`, both columns too, in nats.

    Both are log-probabilities of the whole answer given its prompt, summed over the tokens that `dpo` trains: the
    answer's and its end token (which an answer that a length cap cut does not have). A model that DPO tuned is its own
    reward model: this is the reward up to a term that depends on the prompt only. So values compare answers to one
    prompt (`best_worst` with `by: implicit_reward`); of different prompts only as far as that term is alike. Long
    answers weigh more: `per_token` takes means in place of sums. 0 where both roles are one model.

    No answer is cut to fit, because a part of it has another reward. `tag:implicit_reward.problem` says why a row has
    none: no answer, no prompt, or no room in one of the models. Each model reads the row by its own template and
    tokenizer.
    """

    name: ClassVar[str] = "implicit_reward"

    model: ModelRole = identity("current", description="The tuned model, whose reward it is.")
    reference: ModelRole = identity("start", description="The model that it was tuned from, or against.")
    beta: float = identity(
        0.1, gt=0, description="Scale of the reward: that of the preference training.", source="2305.18290 §4, App. B"
    )
    per_token: bool = identity(False, description="Mean log-probabilities per token of the answer in place of sums.")
    max_length: Count = identity(
        CHAT_LENGTH, description="Longest prompt and answer that is scored; never more than a context.", unit="tokens"
    )

    def columns(self) -> tuple[str, ...]:
        """The reward, what it is made of, and why there is none."""
        return ("implicit_reward", "logp_model", "logp_reference", f"{TAG}implicit_reward.problem")

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Log-probabilities of given texts by both."""
        return {"model": frozenset({"logprobs"}), "reference": frozenset({"logprobs"})}

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """All rows of both models at once, so that engines can sort them by length."""
        roles = (self.model, self.reference)
        spans = [[self._span(context.chats[role], row) for row in batch] for role in roles]
        wanted = [s.ask(r) for r, side in zip(roles, spans, strict=True) for s in side if isinstance(s, Span)]
        replies = iter((yield Tolerant(wanted)))
        own, other = ([self._value(span, replies) for span in side] for side in spans)
        rewards = [self._reward(one, two) for one, two in zip(own, other, strict=True)]
        columns = ([value for value, _ in part] for part in (rewards, own, other))
        return dict(zip(self.columns(), (*columns, [why for _, why in rewards]), strict=True))

    def _span(self, chat: ChatFormat, row: Example) -> Span | str:
        """The row's answer with its end token after its prompt, or why it cannot be scored."""
        if not row.answer:
            return NO_ANSWER
        if not row.prompt:
            return NO_PROMPT
        ids = answer_ids(chat, row.prompt, row.answer, is_cut(row))
        span = Span(ids, common(chat.render(row.prompt, add_generation_prompt=True), ids))
        if span.scored <= 0:
            return NO_ANSWER
        return span if len(ids) <= longest(chat, self.max_length) else NO_FIT

    def _value(self, span: Span | str, replies: Any) -> Found:
        if isinstance(span, str):
            return None, span
        reply = next(replies)
        if isinstance(reply, Exception):
            return None, refusal(reply)
        total = float(reply.values.sum(dtype="float64"))
        return total / span.scored if self.per_token else total, None

    def _reward(self, own: Found, other: Found) -> Found:
        if own[0] is not None and other[0] is not None:
            return self.beta * (own[0] - other[0]), None
        if own[1] == other[1]:
            return None, own[1]
        return None, "; ".join(filter(None, [own[1], other[1] and f"of the reference: {other[1]}"]))
