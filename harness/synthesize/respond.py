"""`respond`: a model's own answers to the prompts of the rows (SPIN's opponent, CLEAR's correction)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import field_validator

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import (
    Ask,
    Completion,
    Context,
    Drop,
    Item,
    Made,
    Reply,
    Request,
    Sampling,
    Synthesizer,
    Tolerant,
)
from harness.errors import UserError
from harness.records.cut import CUT_ANSWER, CUT_PARENT, is_cut, with_cuts
from harness.records.example import Dropped, Example, Message, Origin
from harness.records.values import Count

CUT = "cut by the length cap"
EMPTY = "empty answer"
TOO_LONG, REFUSED = "prompt too long for the model", "refused"


class Respond(Synthesizer):
    """New answers of `model` to each row's prompt.

    An output row keeps the prompt and original columns of its parent, has its group, and carries the parent's answer as
    `fields.parent_answer`. Scores are not carried over: they belonged to another answer. Nor are tags, for the same
    reason (the pocket pools' `defect`), but those that `keep_tags` says to describe the prompt. An answer that hit
    the length cap is dropped by default, because it teaches a model not to stop and gives preference pairs away by
    their missing end (2401.01335 as released cuts at 256 tokens and appends an end token). A kept one says that it was
    cut (`fields.answer_cut`), and trainers give it no end token. A row that the model cannot be asked for is dropped as
    `prompt too long for the model`, or as `refused` (by a template or a server); `fields.problem` has the words.
    """

    name: ClassVar[str] = "respond"

    model: ModelRole = identity("current", description="The model that answers.")
    temperature: float = identity(
        1.0, ge=0, description="0 takes the most likely token each time.", source="2401.01335 §4.1: y' is a sample"
    )
    top_p: float = identity(
        1.0, gt=0, le=1, description="Sample from the smallest set of tokens with this probability."
    )
    max_tokens: Count = identity(512, description="Cap on an answer's length.", unit="tokens", source="2403.12776 §4")
    n: Count = identity(1, description="Answers per prompt; with temperature 0 they would all be the same.")
    keep_cut: bool = identity(
        False, description="Keep answers that hit the length cap; they are marked, and train without an end token."
    )
    template: str | None = identity(
        None,
        description="A text instead of the chat template, with {prompt} where the last user turn goes. SPIN's released "
        "code asks with '### Instruction: {prompt}\\n\\n### Response: ' what it trains with the chat template.",
        source="uclaml/SPIN a12ba80, spin/generate.py",
    )
    keep_tags: tuple[str, ...] = identity(
        ("category", "leaf"), description="Tags that describe the prompt, and so hold for another answer too."
    )

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, value: str | None) -> str | None:
        if value is not None and "{prompt}" not in value:
            raise ValueError("should have {prompt} where the question goes")
        return value

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per row, whatever `n` is."""
        for row in rows:
            yield Item(id=row.id, row=row)

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Asks once for all `n` answers; each that is no use is dropped by itself."""
        row = item.row
        if row is None or not row.prompt:
            return Drop("no prompt")
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p, n=self.n)
        ids = self._ids(row, context)
        (answers,) = yield Tolerant([Ask(model=self.model, messages=row.prompt, sampling=sampling, ids=ids)])
        if isinstance(answers, Exception):
            why = TOO_LONG if "exceeds the context" in str(answers) else REFUSED
            return [Dropped(replace(row, fields={**row.fields, "problem": str(answers)}), why)]
        made = [self._answered(row, answer, context) for answer in answers]
        reasons = [unfit(answer, self.keep_cut, CUT, EMPTY) for answer in answers]
        return [Dropped(new, why) if why else new for new, why in zip(made, reasons, strict=True)]

    def _ids(self, row: Example, context: Context) -> tuple[int, ...] | None:
        """The prompt's ids where a text takes the place of the chat template: no BOS, as in the released code."""
        if self.template is None:
            return None
        chat = context.chats.get(self.model)
        if chat is None:
            raise UserError(
                f"the model bound to {self.model!r} is a served one, which renders by itself: leave `template` out"
            )
        asked = next((m["content"] for m in reversed(row.prompt) if m["role"] == "user"), row.prompt[-1]["content"])
        return chat.encode(self.template.replace("{prompt}", asked))

    def _answered(self, row: Example, answer: Completion, context: Context) -> Example:
        cuts = {CUT_ANSWER: answer.finish == "length", CUT_PARENT: is_cut(row) and row.answer is not None}
        fields = with_cuts(row.fields, **cuts)
        if row.answer is not None:
            fields["parent_answer"] = row.answer
        return replace(
            row,
            id=f"{row.id}/{context.block}/{context.iteration}.{answer.draw}",
            messages=(*row.prompt, Message(role="assistant", content=answer.text.strip())),
            group=row.group or row.id,
            rejected=None,
            candidates=(),
            fields=fields,
            tags={name: value for name, value in row.tags.items() if name in self.keep_tags},
            scores={},
            origin=Origin(block=self.name, parents=(row.id,), model=self.model, iteration=context.iteration),
        )


def unfit(completion: Completion, keep_cut: bool, cut: str, empty: str) -> str | None:
    """Why a completion is no use (`cut` or `empty`), or None."""
    if completion.finish == "length" and not keep_cut:
        return cut
    return None if completion.text.strip() else empty
