"""`ira`: how much an instruction helps a model to predict the answer (FedDQC, 2410.11540)."""

from __future__ import annotations

from typing import ClassVar

from harness.records.columns import TAG
from harness.select._losses import Losses, LossScorer, Part


class Ira(LossScorer):
    """Instruction-response alignment: column `ira`, `da - ca` in nats per answer token, where `da` is the mean loss of
    the answer alone and `ca` after its prompt. High: the prompt explains the answer. Low or negative: the answer may
    belong to another prompt.

    It is -log of IFD in the perplexity form. IFD keeps rows that score low here, FedDQC those that score high: keep the
    upper half with `top` (`by: ira`). Variants and options as in `ifd`.
    """

    name: ClassVar[str] = "ira"

    def columns(self) -> tuple[str, ...]:
        """The difference, and why there is none."""
        return ("ira", f"{TAG}ira.problem")

    def parts(self) -> tuple[Part, ...]:
        """Both losses of the answer."""
        return ("ca", "da")

    def values(self, losses: Losses) -> tuple[float | str | None, ...]:
        """Their difference."""
        ca, da = losses["ca"], losses["da"]
        return (None if ca is None or da is None or not losses.comparable else da - ca), losses.why
