"""`prefer`: is a row's answer better than the one that it replaced? (the gate of CLEAR's correction, 2403.12776)"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import ClassVar, Literal

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Ask, Columns, Context, Reply, Request, Sampling, Scorer, Tolerant
from harness.blocks.prompts import fill
from harness.judges.verdicts import choice, rating
from harness.records.example import Example, Message, prompt_text
from harness.records.values import Count
from harness.select._spans import answered, longest, mean

VERDICT, RATING = "judge_pair", "rate"
_POINTS = {"A": 1.0, "B": 0.0, "C": 0.5}
_RATING_SPAN = 9.0


class Prefer(Scorer):
    """Column `prefer`: 1 where the row's answer wins over its parent's (`fields.parent_answer`), 0 where it loses.

    0.5 is a draw, which equal answers are without asking. A row is missing (None) where one of the answers is, or a
    verdict cannot be read: an unread verdict is no draw. Ways to compare:

    * `verdict`: `model` reads both answers with the prompt `judge_pair` of its pack and names the better one, twice,
      with the order changed; the two verdicts are averaged, so 1 needs both. Asked greedily.
    * `rating`: `model` rates each answer alone with the prompt `rate`; `0.5 + (new - old) / 18` for ratings of 1 to 10.
    * `likelihood`: `1 / (1 + exp(old - new))` for the mean log-probabilities per token of both answers after the
      prompt; for models that follow no prompts. 0.8 means a difference of 1.39 nats per token.
    * `auto`: `verdict` where the model's prompt pack has `judge_pair`, else `likelihood`.
    """

    name: ClassVar[str] = "prefer"
    reads_prompts: ClassVar[bool] = True

    model: ModelRole = identity(
        "student", description="The model that compares.", source="2403.12776: the untuned model"
    )
    against: Literal["parent"] = identity("parent", description="What the row's answer is compared with.")
    by: Literal["auto", "verdict", "rating", "likelihood"] = identity("auto", description="How they are compared.")
    max_tokens: Count = identity(512, description="Cap on a verdict or rating.", unit="tokens")
    max_length: Count = identity(2048, description="Tokens of prompt and answer, for likelihood.", unit="tokens")

    def columns(self) -> tuple[str, ...]:
        """One column."""
        return ("prefer",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Two requests per row that needs them, all at once."""
        by = self.by if self.by != "auto" else "verdict" if VERDICT in context.prompts else "likelihood"
        asked = [self._requests(row, by, context) for row in batch]
        replies = iter((yield Tolerant(request for requests in asked for request in requests)))
        values = []
        for row, requests in zip(batch, asked, strict=True):
            pair = [next(replies) for _ in requests]
            values.append(self._value(by, pair, context) if pair else _unasked(row))
        return {"prefer": values}

    def _requests(self, row: Example, by: str, context: Context) -> list[Request]:
        new, old = row.answer, row.fields.get("parent_answer")
        if not new or not isinstance(old, str) or not old or new == old:
            return []
        if by == "likelihood":
            chat = context.chats[self.model]
            spans = [answered(chat, row.prompt, text, longest(chat, self.max_length)) for text in (new, old)]
            return [span.ask(self.model) for span in spans if span] if all(spans) else []
        question = prompt_text(row)
        if by == "rating":
            texts = [
                fill(context.prompts, RATING, "prefer with `by: rating`", question=question, answer=text)
                for text in (new, old)
            ]
        else:
            texts = [
                fill(context.prompts, VERDICT, "prefer with `by: verdict`", question=question, answer_a=a, answer_b=b)
                for a, b in ((new, old), (old, new))
            ]
        system = context.prompts.get("judge_system") if by == "verdict" else None
        turns = (Message(role="system", content=system),) if system else ()
        sampling = Sampling(max_tokens=self.max_tokens)
        return [
            Ask(model=self.model, messages=(*turns, Message(role="user", content=text)), sampling=sampling)
            for text in texts
        ]

    def _value(self, by: str, pair: Sequence[Reply], context: Context) -> float | None:
        if any(isinstance(reply, Exception) for reply in pair):
            return None
        if by == "likelihood":
            return 1 / (1 + math.exp(mean(pair[1]) - mean(pair[0])))
        first, second = (reply[0].text for reply in pair)
        if by == "rating":
            pattern = context.prompts.get(f"{RATING}.parse")
            new, old = rating(first, pattern), rating(second, pattern)
            return None if new is None or old is None else 0.5 + (new - old) / (2 * _RATING_SPAN)
        one, other = choice(first), choice(second)
        return None if one is None or other is None else (_POINTS[one] + 1 - _POINTS[other]) / 2


def _unasked(row: Example) -> float | None:
    return 0.5 if row.answer and row.answer == row.fields.get("parent_answer") else None
