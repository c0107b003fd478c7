"""`magpie`: instructions that an aligned model writes itself when it is given nothing but the opening of a user turn.

2406.08464. The model sees its chat template up to where the user's text would begin and samples that text; then it, or
another model, answers. Every row starts from nothing: no seeds, no task prompt.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import StringConstraints

from harness.blocks.base import ModelRole, OptionalRole, identity
from harness.blocks.kinds import Ask, Context, Item, Made, Reply, Request, Sampling, Synthesizer
from harness.blocks.prompts import fill
from harness.engines.base import Capability
from harness.errors import UserError
from harness.records.example import Dropped, Example, Message, Origin
from harness.records.values import Count
from harness.synthesize._focus import scheduled, weights
from harness.synthesize._sanitise import sanitise
from harness.synthesize.respond import unfit

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

Text = Annotated[str, StringConstraints(min_length=1)]
EMPTY_INSTRUCTION, CUT_INSTRUCTION = "empty instruction", "cut instruction"
EMPTY_RESPONSE, CUT_RESPONSE = "empty response", "cut response"


class Magpie(Synthesizer):
    """Self-written instructions with their answers, single turn.

    A user turn ends at any token that the template writes around turns, never at a word such as `assistant` (the
    released code's textual stop cuts questions that mention one); `stop` adds texts, for instance a line break. The row
    holds the instruction and the answer only: a system turn steers what is asked, not how it is answered.
    """

    name: ClassVar[str] = "magpie"
    reads_rows: ClassVar[bool] = False
    reads_prompts: ClassVar[bool] = True

    model: ModelRole = identity("teacher", description="The aligned model that writes the instructions.")
    responder: OptionalRole = identity(None, description="The model that answers; by default the same one.")
    rows: Count = identity(1000, description="Attempts; the rows are what the drops leave.")
    temperature: float = identity(1.0, gt=0, description="Of the instructions.", source="2406.08464 Table 7")
    top_p: float = identity(1.0, gt=0, le=1, description="Of the instructions.", source="2406.08464 Table 7")
    max_tokens: Count = identity(1024, description="Cap on an instruction; one that hits it is dropped.", unit="tokens")
    first_temperature: float | None = identity(
        None, ge=0, description="Temperature of an instruction's first token only; by default as the rest."
    )
    first_bans: tuple[Text, ...] = identity(
        (),
        description="Texts such as '#'. Only the first token of each is banned from opening an instruction.",
        source="released scripts, Llama-3.1",
    )
    stop: tuple[Text, ...] = identity(
        (), description="Texts that end an instruction, besides the template's own tokens."
    )
    sanitise: bool = identity(
        False, description="Remove labels, enclosing quotes and appended answers from instructions."
    )
    system: Text | None = identity(
        None, description="A system turn before every instruction.", source="2406.08464 §2.2"
    )
    focus: Literal["none", "feedback"] = identity(
        "none", description="`feedback`: a system turn steers towards weak categories of the last dev evaluation."
    )
    response_temperature: float = identity(0.0, ge=0, description="Of the answers.", source="2406.08464 App. E.1")
    response_top_p: float = identity(1.0, gt=0, le=1, description="Of the answers.")
    response_max_tokens: Count = identity(
        4096, description="Cap on an answer's length.", unit="tokens", source="2406.08464, released scripts"
    )
    keep_cut: bool = identity(False, description="Keep answers that hit the length cap.")

    def uses_feedback(self) -> bool:
        """True with `focus: feedback`."""
        return self.focus == "feedback"

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A user's turn can only be sampled where the prompt's token ids are given."""
        return {"model": frozenset({"continue"})}

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per attempt. Without any feedback yet, in a first iteration say, nothing is steered."""
        categories = context.feedback.categories if self.uses_feedback() and context.feedback else ()
        shares = weights(categories) if categories else {}
        for index in range(self.rows):
            data = {"category": scheduled(shares, index)} if shares else {}
            yield Item(id=f"{context.block}/{context.iteration}/{index}", data=data)

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Asks for the user turn, then for the answer to it."""
        ((turn,),) = yield [
            Ask(
                model=self.model, speaker="user", messages=self._system(item, context), sampling=self._sampling(context)
            )
        ]
        instruction, rules = sanitise(turn.text) if self.sanitise else (turn.text.strip(), ())
        fields = {"raw_instruction": turn.text} if rules else {}
        row = self._row(item, context, [Message(role="user", content=instruction)], fields)
        reason = unfit(turn, False, CUT_INSTRUCTION, EMPTY_INSTRUCTION) or (
            EMPTY_INSTRUCTION if not instruction else None
        )
        if reason:
            return [Dropped(row, reason)]
        sampling = Sampling(
            max_tokens=self.response_max_tokens, temperature=self.response_temperature, top_p=self.response_top_p
        )
        responder = self.responder or self.model
        ((answer,),) = yield [Ask(model=responder, messages=row.messages, sampling=sampling, draw=1)]
        reply = Message(role="assistant", content=answer.text.strip())
        row = self._row(item, context, [*row.messages, reply], fields)
        reason = unfit(answer, self.keep_cut, CUT_RESPONSE, EMPTY_RESPONSE)
        return [Dropped(row, reason) if reason else row]

    def _system(self, item: Item, context: Context) -> tuple[Message, ...]:
        turns = [self.system] if self.system else []
        if "category" in item.data:
            turns.append(
                fill(context.prompts, "steer", "magpie with `focus: feedback`", category=str(item.data["category"]))
            )
        return (Message(role="system", content="\n".join(turns)),) if turns else ()

    def _sampling(self, context: Context) -> Sampling:
        chat = context.chats[self.model]
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=(*self.stop, *chat.user_stops),
            stop_ids=chat.stop_ids,
            first_temperature=self.first_temperature,
            first_bans=tuple(_first_token(chat, text, self.model) for text in self.first_bans),
        )

    def _row(self, item: Item, context: Context, messages: Sequence[Message], fields: Mapping[str, Any]) -> Example:
        return Example(
            id=item.id,
            messages=tuple(messages),
            group=item.id,
            fields=fields,
            tags={"category": str(item.data["category"])} if "category" in item.data else {},
            origin=Origin(block=self.name, model=self.model, iteration=context.iteration),
        )


def _first_token(chat: ChatFormat, text: str, role: str) -> int:
    ids = chat.encode(text)
    if not ids:
        raise UserError(
            f"magpie: first_bans has {text!r}, which is no token at all for the tokenizer of {role}: remove it"
        )
    return ids[0]
