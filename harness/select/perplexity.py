"""`perplexity`: how surprising an answer is to a model. The arm that IFD has to beat (2402.00530, Table 3)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from harness.blocks.base import identity
from harness.records.columns import TAG
from harness.select._losses import LARGEST, Losses, LossScorer, Part

_PARTS: dict[str, Part] = {"answer": "ca", "answer_alone": "da", "prompt": "prompt"}


class Perplexity(LossScorer):
    """Column `perplexity`: `exp` of a mean loss per token, at least 1. Variants and options as in `ifd`.

    Selecting by it is a control: high values are noise and other languages as much as hard questions.
    """

    name: ClassVar[str] = "perplexity"

    of: Literal["answer", "answer_alone", "prompt"] = identity(
        "answer",
        description="answer: after its prompt; answer_alone: as `ifd` scores it directly; prompt: the whole of it, as "
        "the variant writes it, with nothing before it (what the released K-means pick of Cherry looks at).",
        source="2402.00530 Table 3",
    )

    def columns(self) -> tuple[str, ...]:
        """One column, and why there is none."""
        return ("perplexity", f"{TAG}perplexity.problem")

    def parts(self) -> tuple[Part, ...]:
        """The one loss."""
        return (_PARTS[self.of],)

    def values(self, losses: Losses) -> tuple[float | str | None, ...]:
        """Its exponential."""
        loss = losses[_PARTS[self.of]]
        return (None if loss is None else math.exp(min(loss, LARGEST))), None if loss is not None else losses.why
