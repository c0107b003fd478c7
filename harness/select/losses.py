"""`losses`: every loss-based score of a row from one set of forward passes."""

from __future__ import annotations

import math
from typing import ClassVar

from harness.blocks.base import identity
from harness.records.columns import TAG
from harness.select._losses import LARGEST, Losses, LossScorer, Part

_FORTH: tuple[Part, ...] = ("ca", "da")
_BACK: tuple[Part, ...] = ("cq", "dq")


class AllLosses(LossScorer):
    """Columns `ifd`, `ira`, `perplexity` with the losses `ca` and `da`, and with `reverse` also `rifd`, `cq` and `dq`.

    The same values as the blocks of those names give with their default options, for two forward passes per row (four
    with `reverse`) instead of two for each block: for comparing scores with one another.
    """

    name: ClassVar[str] = "losses"

    reverse: bool = identity(False, description="Score the instruction after the answer too, as `rifd` does.")

    def columns(self) -> tuple[str, ...]:
        """All scores, and why a row has none."""
        back = ("rifd", *_BACK) if self.reverse else ()
        return ("ifd", "ira", "perplexity", *_FORTH, *back, f"{TAG}losses.problem")

    def parts(self) -> tuple[Part, ...]:
        """Two losses or four."""
        return _FORTH + (_BACK if self.reverse else ())

    def values(self, losses: Losses) -> tuple[float | str | None, ...]:
        """The scores in the order of their columns."""
        form, ca, da = self.form(), losses["ca"], losses["da"]
        scores = [
            losses.compared(form.formula if form else "ratio", "ca", "da"),
            da - ca if ca is not None and da is not None and losses.comparable else None,
            None if ca is None else math.exp(min(ca, LARGEST)),
        ]
        back = [losses.compared("perplexity", "cq", "dq")] if self.reverse else []
        return (*scores, *(losses[p] for p in _FORTH), *back, *(losses[p] for p in _BACK if self.reverse), losses.why)
