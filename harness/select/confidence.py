"""`confidence`: how sure a model is of the answer that a row has (the filter of CLEAR, 2403.12776)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from difflib import SequenceMatcher
from typing import ClassVar, Literal

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Ask, Columns, Completion, Context, Reply, Request, Sampling, Scorer, Tolerant
from harness.engines.base import Capability
from harness.records.example import Example
from harness.records.hashing import seed_of
from harness.records.values import Count
from harness.select._spans import answered, longest, mean


class Confidence(Scorer):
    """Column `confidence`, in 0..1; missing where a row has no answer, or none of it fits in `max_length`.

    CLEAR scores with BSDetector (2308.16175): agreement of the answer with fresh samples, mixed with the model's own
    word that it is correct. Here one plain measure is chosen, because both need an aligned model and a second prompt:

    * `likelihood`: `exp` of the mean log-probability per answer token after the rendered prompt, i.e. 1 / perplexity.
      One forward pass per row, for any model, also an untuned one.
    * `agreement`: BSDetector's first part: the mean share of words, in order, that the answer has in common with
      `samples` answers which the model gives to the same prompt.
    """

    name: ClassVar[str] = "confidence"
    random: ClassVar[bool] = True

    model: ModelRole = identity("student", description="The model whose confidence it is.")
    by: Literal["likelihood", "agreement"] = identity("likelihood", description="What is measured.")
    samples: Count = identity(5, description="Fresh answers per row, for agreement.", source="2308.16175: 5 to 10")
    temperature: float = identity(1.0, gt=0, description="Of the fresh answers.", source="2308.16175: high")
    max_tokens: Count = identity(512, description="Cap on a fresh answer.", unit="tokens")
    max_length: Count = identity(2048, description="Tokens of prompt and answer, for likelihood.", unit="tokens")

    def is_random(self) -> bool:
        """Only agreement draws samples."""
        return self.by == "agreement"

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Agreement needs answers only; likelihood, the model's opinion of a given one."""
        return {"model": frozenset({"logprobs" if self.by == "likelihood" else "generate"})}

    def columns(self) -> tuple[str, ...]:
        """One column."""
        return ("confidence",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """One request per row that can be scored, all at once."""
        requests = [self._request(row, context) for row in batch]
        replies = iter((yield Tolerant(request for request in requests if request is not None)))
        scores = [
            None if request is None else self._value(row, next(replies))
            for row, request in zip(batch, requests, strict=True)
        ]
        return {"confidence": scores}

    def _request(self, row: Example, context: Context) -> Request | None:
        if not row.answer or not row.prompt:
            return None
        if self.by == "likelihood":
            chat = context.chats[self.model]
            span = answered(chat, row.prompt, row.answer, longest(chat, self.max_length))
            return span.ask(self.model) if span else None
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature, n=self.samples)
        seed = seed_of(context.seed, context.block, context.iteration, row.id)
        return Ask(model=self.model, messages=row.prompt, sampling=sampling, fixed_seed=seed)

    def _value(self, row: Example, reply: Reply) -> float | None:
        if isinstance(reply, Exception):
            return None
        if self.by == "likelihood":
            return math.exp(mean(reply))
        completions: Sequence[Completion] = reply
        return sum(similarity(row.answer or "", c.text) for c in completions) / len(completions)


def similarity(one: str, other: str) -> float:
    """Share of words that two texts have in common, in order (0..1; 1 for equal texts)."""
    return SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()
