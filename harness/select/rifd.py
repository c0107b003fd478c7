"""`rifd`: how little an answer helps a model to guess the instruction (reversed IFD, 2402.10110)."""

from __future__ import annotations

from typing import ClassVar

from harness.blocks.base import identity
from harness.records.columns import TAG
from harness.records.example import Example
from harness.select._forms import Formula
from harness.select._losses import ASK, Losses, LossScorer, Part


class Rifd(LossScorer):
    """Reversed IFD. Columns, in nats per instruction token: `cq`, the mean loss of the instruction after its answer;
    `dq`, of the instruction with nothing before it; and `rifd`, `exp(cq - dq)`. Low: the answer shows what was asked.

    The answer stands in a user's turn of the variant's prompt, worded by `ask`; the instruction, its input behind it,
    takes the place of the answer. Offsets and truncation are the released ones (`as_released`); the wording is ours,
    and that of another source can be given. Variants as in `ifd`; the released script knows alpaca, wiz and vicuna.
    """

    name: ClassVar[str] = "rifd"

    formula: Formula = identity(
        "perplexity", description="perplexity: exp(cq - dq); ratio: cq / dq.", source="2402.10110 §3: perplexities"
    )
    ask: str = identity(
        ASK, description="How the way back is asked; `{answer}` stands for the answer.", pattern=r"\{answer\}"
    )

    def columns(self) -> tuple[str, ...]:
        """The score, its two parts, and why there is none."""
        return ("rifd", "cq", "dq", f"{TAG}rifd.problem")

    def parts(self) -> tuple[Part, ...]:
        """Both losses of the instruction."""
        return ("cq", "dq")

    def values(self, losses: Losses) -> tuple[float | str | None, ...]:
        """The quotient and its parts."""
        return losses.compared(self.formula, "cq", "dq"), losses["cq"], losses["dq"], losses.why

    def _ask(self, row: Example) -> str:
        return self.ask.replace("{answer}", row.answer or "")
