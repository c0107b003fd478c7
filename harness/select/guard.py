"""`guard`: what a safety model (Llama Guard and its kin) says of a conversation, as a label and kinds of harm."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any, ClassVar

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Ask, Columns, Context, Reply, Request, Sampling, Scorer, Tolerant
from harness.records.example import Example
from harness.records.values import Count

_VERDICT = re.compile(r"^\s*(safe|unsafe)\b[\s:]*([SOso]\d{1,2}(?:\s*,\s*[SOso]\d{1,2})*)?", re.IGNORECASE)


class Guard(Scorer):
    """The conversation goes through the safety model's own chat template; it answers `safe`, or `unsafe` and codes.

    Columns: `tag:safety` (safe or unsafe), `tag:safety.kinds` (codes such as `S2,S6`, where it named any),
    `tag:safety.problem` (why there is no label: `no value`, `refused: ...`), `field:safety.text` (what it wrote: the
    released code stores this alone). A model without such a template is asked by `tag` with `prompt: tag_safety`.
    """

    name: ClassVar[str] = "guard"

    model: ModelRole = identity("guard", description="The safety model.", source="2406.08464 App. G: Llama-Guard-2-8B")
    max_tokens: Count = identity(100, description="Cap on its answer.", unit="tokens")

    def columns(self) -> tuple[str, ...]:
        """Label, kinds, problem and text."""
        return ("tag:safety", "tag:safety.kinds", "tag:safety.problem", "field:safety.text")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """One request per row, all at once."""
        sampling = Sampling(max_tokens=self.max_tokens)
        replies = yield Tolerant(Ask(model=self.model, messages=row.messages, sampling=sampling) for row in batch)
        out: dict[str, list[Any]] = {name: [] for name in self.columns()}
        for reply in replies:
            for name, value in zip(self.columns(), _read(reply), strict=True):
                out[name].append(value)
            context.count(f"safety: {out['tag:safety'][-1] or 'no value'}")
        return out


def _read(reply: Any) -> tuple[str | None, str | None, str | None, str | None]:
    if isinstance(reply, Exception):
        return None, None, f"refused: {reply}", None
    text = reply[0].text
    match = _VERDICT.match(text)
    if match is None:
        return None, None, "no value", text
    kinds = ",".join(code.strip().upper() for code in match[2].split(",")) if match[2] else None
    return match[1].lower(), kinds, None, text
