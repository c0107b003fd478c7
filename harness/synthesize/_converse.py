"""What `magpie` and `extend` share: a user's turn sampled from a bare prefix, and the answer to it.

2406.08464 §2. The block asks with token ids that it knows to hold exactly one BOS, and writes beside every turn how it
was made: decoding settings, seed, why it ended, and its length in tokens. The released code leaves all of that out.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import StringConstraints, model_validator

from harness.blocks.base import ModelRole, OptionalRole, identity
from harness.blocks.kinds import Ask, Completion, Context, Reply, Request, Sampling, Synthesizer, Tolerant
from harness.engines.base import Capability
from harness.errors import UserError
from harness.records.example import Message
from harness.records.hashing import seed_of
from harness.records.values import Count
from harness.synthesize._sanitise import sanitise
from harness.synthesize._teachers import RELEASED_STOP
from harness.synthesize.respond import unfit

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

Text = Annotated[str, StringConstraints(min_length=1)]
EMPTY_INSTRUCTION, CUT_INSTRUCTION = "empty instruction", "cut instruction"
EMPTY_RESPONSE, CUT_RESPONSE = "empty response", "cut response"
NO_INSTRUCTION, NO_RESPONSE = "instruction not possible", "response not possible"
"""The model cannot be asked: the conversation is longer than its context, or refused; `made` says by what words."""
TURNS = "magpie_turns"
"""Entry of the prompt pack: the system turn before later user turns, where the pack has it."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How one user's turn is sampled, and what stands before it."""

    temperature: float
    top_p: float
    system: str | None = None
    prefix: str | None = None
    """The literal text before the turn, instead of what the chat template writes."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A user's turn and its answer, or why there is none. `made` says how, in JSON."""

    messages: tuple[Message, ...]
    reason: str | None
    cut: bool
    """The answer hit its length cap."""
    made: Mapping[str, Any]


class Conversing(Synthesizer):
    """Options and turns of the blocks that let a model write both sides of a conversation."""

    reads_prompts: ClassVar[bool] = True

    model: ModelRole = identity("teacher", description="The aligned model that writes the instructions.")
    responder: OptionalRole = identity(None, description="The model that answers; by default the same one.")
    max_tokens: Count = identity(1024, description="Cap on an instruction; one that hits it is dropped.", unit="tokens")
    first_temperature: float | None = identity(
        None, ge=0, description="Temperature of an instruction's first token only; by default as the rest."
    )
    first_divisor: float | None = identity(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Divides the logits of an instruction's first token, before its temperature: above 1, openings "
        "differ more.",
        source="released scripts, Qwen2.5-Math: 1.2",
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
    double_bos: bool = identity(
        False, description="Send the start token twice, as the released code does by accident with vLLM."
    )
    response_temperature: float = identity(0.0, ge=0, description="Of the answers.", source="2406.08464 App. E.1")
    response_top_p: float = identity(1.0, gt=0, le=1, description="Of the answers.")
    response_max_tokens: Count = identity(
        4096, description="Cap on an answer's length.", unit="tokens", source="2406.08464, released scripts"
    )
    keep_cut: bool = identity(
        False, description="Keep last answers that hit the length cap; they are marked, and train without an end token."
    )

    @model_validator(mode="after")
    def _one_way_to_heat_the_first_token(self) -> Self:
        if self.first_temperature is not None and self.first_divisor is not None:
            raise ValueError("`first_temperature` and `first_divisor` both say how the first token is drawn: give one")
        return self

    def first(self, temperature: float) -> float | None:
        """Temperature of the first token of an instruction, whose others have this one; None where it is the same."""
        return self.first_temperature if self.first_divisor is None else temperature * self.first_divisor

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A user's turn needs the token ids of a chat template that the model itself was trained with."""
        return {"model": frozenset({"turns"})}

    def stops(self) -> tuple[str, ...]:
        """Texts that end an instruction."""
        return self.stop

    def talk(
        self,
        name: str,
        context: Context,
        before: Sequence[Message],
        decoding: Decoding,
        number: int,
        last: bool,
        own: tuple[Message, ...] = (),
    ) -> Generator[Sequence[Request], Sequence[Reply], Turn]:
        """Asks for user turn `number` (0-based) after `before`, then for the answer to it.

        `before` holds no system turn: that of `decoding` steers the question only, never the answer, and `own`, the
        conversation's own one, is shown to both. A cut answer can only be kept where the conversation ends with it
        (`last`).
        """
        ask = self._user_ask(name, context, before, decoding, 2 * number)
        (reply,) = yield Tolerant([ask])
        if isinstance(reply, Exception):
            refused = {"problem": str(reply)}
            return Turn(messages=tuple(before), reason=_at(NO_INSTRUCTION, number), cut=False, made=refused)
        (said,) = reply
        text, rules = sanitise(said.text) if self.sanitise else (said.text.strip(), ())
        made: dict[str, Any] = {"instruction": self._how(context, ask, said, decoding)}
        if rules:
            made["raw_instruction"] = said.text
            context.count("instructions cleaned")
        asked = (*before, Message(role="user", content=text))
        reason = unfit(said, False, CUT_INSTRUCTION, EMPTY_INSTRUCTION) or (None if text else EMPTY_INSTRUCTION)
        if reason:
            return Turn(messages=asked, reason=_at(reason, number), cut=False, made=made)
        sampling = Sampling(
            max_tokens=self.response_max_tokens, temperature=self.response_temperature, top_p=self.response_top_p
        )
        responder, seed = self.responder or self.model, _seed(context, name, 2 * number + 1)
        (reply,) = yield Tolerant([Ask(model=responder, messages=(*own, *asked), sampling=sampling, fixed_seed=seed)])
        if isinstance(reply, Exception):  # longer than the context, or refused by the template or a server
            made["problem"] = str(reply)
            return Turn(messages=asked, reason=_at(NO_RESPONSE, number), cut=False, made=made)
        (answer,) = reply
        made["response"] = _settings(sampling, seed, answer)
        context.count("answers")
        context.count("answers cut by the length cap", answer.finish == "length")
        reason = unfit(answer, self.keep_cut and last, CUT_RESPONSE, EMPTY_RESPONSE)
        said_back, cut = Message(role="assistant", content=answer.text.strip()), answer.finish == "length"
        return Turn(messages=(*asked, said_back), reason=_at(reason, number), cut=cut, made=made)

    def later(self, context: Context, temperature: float, top_p: float, own: tuple[Message, ...] = ()) -> Decoding:
        """How user turns after the first are sampled: with the pack's system turn that says who speaks, after `own`."""
        turns = [*(m["content"] for m in own), context.prompts.get(TURNS) or ""]
        return Decoding(temperature=temperature, top_p=top_p, system="\n".join(filter(None, turns)) or None)

    def check_prefix(self, context: Context, decoding: Decoding) -> None:
        """Refuses at the start what would fail in every row.

        Raises:
            UserError: what stands before a user's turn cannot be told from the template, or it refuses the system turn.
        """
        self._prefix(context, (), decoding)

    def _user_ask(self, name: str, context: Context, before: Sequence[Message], decoding: Decoding, draw: int) -> Ask:
        chat = context.chats[self.model]
        system = (Message(role="system", content=decoding.system),) if decoding.system else ()
        sampling = Sampling(
            max_tokens=self.max_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            stop=(*self.stops(), *chat.user_stops),
            stop_ids=chat.stop_ids,
            first_temperature=self.first(decoding.temperature),
            first_bans=tuple(_first_token(chat, text, self.model) for text in self.first_bans),
        )
        return Ask(
            model=self.model,
            speaker="user",
            messages=(*system, *before),
            ids=self._prefix(context, before, decoding),
            sampling=sampling,
            fixed_seed=_seed(context, name, draw),
        )

    def _prefix(self, context: Context, before: Sequence[Message], decoding: Decoding) -> tuple[int, ...]:
        chat = context.chats[self.model]
        if decoding.prefix is None or before:
            ids = chat.pre_query(decoding.system, before)
        else:
            ids = chat.literal(decoding.prefix)
        return (chat.bos, *ids) if self.double_bos and chat.bos is not None else ids

    def _how(self, context: Context, ask: Ask, said: Completion, decoding: Decoding) -> dict[str, Any]:
        """Settings of a user's turn, with the token that ended it (None: a stop text, or the length cap)."""
        last = said.token_ids[-1] if said.token_ids and said.finish == "stop" else None
        chat = context.chats[self.model]
        how = _settings(ask.sampling, ask.fixed_seed or 0, said)
        how |= {"stop_id": last if last in chat.stop_ids else None, "template": chat.template_hash}
        return how | ({"system": decoding.system} if decoding.system else {})


def released_stops(newline: bool) -> tuple[str, ...]:
    """The texts at which the released scripts end an instruction."""
    return ("\n", RELEASED_STOP) if newline else (RELEASED_STOP,)


def _settings(sampling: Sampling, seed: int, done: Completion) -> dict[str, Any]:
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": seed,
        "finish": done.finish,
        "tokens": done.new_tokens,
        "prompt_tokens": done.prompt_tokens,
    }


def _at(reason: str | None, number: int) -> str | None:
    return f"{reason} in turn {number + 1}" if reason and number else reason


def _seed(context: Context, name: str, draw: int) -> int:
    return seed_of(context.seed, context.block, context.iteration, name, draw)


def _first_token(chat: ChatFormat, text: str, role: str) -> int:
    ids = chat.encode(text)
    if not ids:
        raise UserError(
            f"magpie: first_bans has {text!r}, which is no token at all for the tokenizer of {role}: remove it"
        )
    return ids[0]
