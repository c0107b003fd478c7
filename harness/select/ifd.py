"""`ifd`: how little an instruction helps a model to predict the answer (2308.12032, 2402.00530)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.blocks.base import identity
from harness.records.columns import TAG
from harness.select._forms import Form, Formula
from harness.select._losses import Losses, LossScorer, Part
from harness.select._spans import opening

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat


class Ifd(LossScorer):
    """Instruction-following difficulty, with the two losses that it is made of.

    Columns, in nats per answer token: `ca`, the mean loss of the answer after its prompt; `da`, the mean loss of the
    answer without it; and `ifd`: `ca / da`, or `exp(ca - da)` for `superfiltering`. The two order rows differently and
    agree on 1, above which the instruction makes the answer less likely. A row without a score (None) has its reason in
    `tag:ifd.problem`: it has no answer, or none of it fits in `max_length`.

    Variants: `chat` renders the whole conversation with the model's own template; its direct score keeps the template
    with an empty user turn, so that what differs is the prompt alone and both scores see the same answer tokens
    (tokenised by themselves, without the end token). The others are the released scripts with their prompts, offsets
    and truncation: `cherry_alpaca` and `wiz` (v1), `cherry_vicuna` and `cherry_wiz` (the `_vic` scripts of v2),
    `superfiltering` (no template, no prefix); the scripts' own words `alpaca`, `vicuna` and `none` are understood too.
    `as_released: false` keeps their prompts but counts tokens rightly for any tokenizer. What the v1 selector does to
    `wiz` rows with an input (it cuts their losses at the wrong token) is not reproduced; its rule, that a row whose
    prompt and direct answer together exceed `max_length` has no ratio, is.
    """

    name: ClassVar[str] = "ifd"
    version: ClassVar[int] = 2

    formula: Formula | None = identity(
        None,
        description="ratio: ca / da, of losses; perplexity: exp(ca - da), of perplexities. By default the variant's.",
        source="2308.12032 Eq. 5; 2402.00530 Eq. 2",
    )
    header: bool = identity(
        True,
        description="False: the direct answer has nothing before it, as the paper's formula says, and not the "
        "response header or empty turn that the released scripts and `chat` keep.",
        source="2308.12032 Eq. 4",
    )

    def columns(self) -> tuple[str, ...]:
        """The score, its two parts, and why there is none."""
        return ("ifd", "ca", "da", f"{TAG}ifd.problem")

    def parts(self) -> tuple[Part, ...]:
        """Both losses of the answer."""
        return ("ca", "da")

    def values(self, losses: Losses) -> tuple[float | str | None, ...]:
        """The quotient and its parts."""
        return losses.compared(self._formula(), "ca", "da"), losses["ca"], losses["da"], losses.why

    def form(self) -> Form | None:
        """The variant's, without its header where that is left out."""
        form = super().form()
        return form if form is None or self.header else form.headless()

    def _bare(self, chat: ChatFormat) -> tuple[int, ...]:
        return super()._bare(chat) if self.header else opening(chat)

    def _formula(self) -> Formula:
        form = super().form()
        return self.formula or (form.formula if form else "ratio")
