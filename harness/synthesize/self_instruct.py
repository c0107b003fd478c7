"""`self_instruct`: new instructions after the example of given ones (the control arm of `magpie`)."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import StringConstraints

from harness.blocks.base import ModelRole, OptionalRole, identity
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
from harness.blocks.prompts import fill
from harness.records.example import Dropped, Example, Message, Origin, prompt_text
from harness.records.hashing import seed_of
from harness.records.values import Count
from harness.synthesize._converse import (
    CUT_INSTRUCTION,
    CUT_RESPONSE,
    EMPTY_INSTRUCTION,
    EMPTY_RESPONSE,
    NO_RESPONSE,
)
from harness.synthesize._growing import Growing, Round, taken
from harness.synthesize._novelty import Novelty, words
from harness.synthesize.respond import unfit

Word = Annotated[str, StringConstraints(min_length=1)]
SHORT, LONG, KEYWORD, SIMILAR = "too few words", "too many words", "keyword", "similar to an earlier instruction"
SURPLUS = "more than were wanted"
_NUMBERED = re.compile(r"^\s*(?:task\s*)?\d{1,3}\s*[.:)]\s*", re.IGNORECASE | re.MULTILINE)


class SelfInstruct(Synthesizer):
    """Instructions that `model` proposes after seeing `seeds` of the rows that come in, and `own` of its own.

    The prompt is an entry of the model's pack with {examples} (numbered), {count}, or {leaf} (that of one drawn row:
    the form that the pocket models know). A reply is read as a numbered list, or as one instruction where it has no
    numbers. Proposals are checked in this order: `cut instruction`, `empty instruction`, `too few words`, `too many
    words`, `keyword`, `similar to an earlier instruction`; those of a reply that come after the last wanted one are
    `more than were wanted`. Then `responder` answers what is left (`empty response`, `cut response`, `response not
    possible`).

    It asks in rounds of at most `batch` prompts, because each round draws on what the rounds before have made, until
    there are `rows` instructions or `prompts` prompts were asked. Each round is saved with its answers, so a stage that
    was interrupted goes on with the round that it was in.
    """

    name: ClassVar[str] = "self_instruct"
    version: ClassVar[int] = 2
    reads_prompts: ClassVar[bool] = True
    in_turn: ClassVar[bool] = True

    model: ModelRole = identity("teacher", description="The model that proposes instructions.")
    responder: OptionalRole = identity(None, description="The model that answers; by default the same one.")
    rows: Count = identity(1000, description="Instructions that are wanted.")
    prompt: str = identity("self_instruct", description="Entry of the model's prompt pack.")
    prompts: Count | None = identity(None, description="Most prompts that are asked; by default 4 per wanted row.")
    per_prompt: Count = identity(8, description="Instructions that one prompt asks for.", source="2212.10560, code: 8")
    batch: Count = identity(32, description="Most prompts per round.")
    seeds: Count = identity(6, description="Examples in a prompt that are rows.", source="2212.10560 §2.2")
    own: int = identity(2, ge=0, description="Examples in a prompt that are made.", source="2212.10560 §2.2")
    similar: float = identity(
        0.7, gt=0, le=1, description="ROUGE-L from which on an instruction is not new.", source="2212.10560 §2.2"
    )
    min_words: Count = identity(4, description="Shortest instruction.", unit="words", source="2212.10560, code")
    max_words: Count = identity(150, description="Longest instruction.", unit="words", source="2212.10560, code")
    keywords: tuple[Word, ...] = identity(
        ("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot",
         "go to", "video", "audio", "music", "flowchart", "diagram"),
        description="Words that a text model cannot serve.", source="2212.10560, code",
    )  # fmt: skip
    temperature: float = identity(0.7, gt=0, description="Of the proposals.", source="2212.10560 App. A.1")
    top_p: float = identity(0.5, gt=0, le=1, description="Of the proposals.", source="2212.10560 App. A.1")
    max_tokens: Count = identity(1024, description="Cap on a reply with proposals.", unit="tokens", source="released")
    response_temperature: float = identity(0.0, ge=0, description="Of the answers.")
    response_max_tokens: Count = identity(4096, description="Cap on an answer's length.", unit="tokens")
    keep_tags: tuple[str, ...] = identity(
        ("category", "leaf"), description="Tags of the drawn row that a prompt with {leaf} hands on."
    )

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per round; those after the last wanted instruction are left out."""
        name = f"{context.block}/{context.iteration}"
        seeds = tuple(row for row in rows if prompt_text(row).strip())
        if not seeds:
            yield Item(id=name)
            return
        growing = Growing(Novelty((prompt_text(row) for row in seeds), self.similar), seeds)
        for number in range(-(-self._prompts() // self.batch)):
            yield Item(id=f"{name}/round-{number}", data={"growing": growing, "round": number, "name": name})

    def enough(self, context: Context) -> bool:
        """True where the rounds so far have made as many instructions as are wanted."""
        return sum(map(taken, context.earlier)) >= self.rows

    def _prompts(self) -> int:
        return self.prompts or 4 * self.rows

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Proposes, then asks for the answers to what is taken."""
        if not item.data:
            return Drop("no seed instructions")
        growing: Growing = item.data["growing"]
        growing.catch_up(context.earlier)
        now = Round(growing, str(item.data["name"]), len(context.earlier))
        number = self.batch * int(item.data["round"])
        last = min(number + self.batch, self._prompts())
        while number < last and len(growing.made) < self.rows:
            count = min(last - number, -(-(self.rows - len(growing.made)) // self.per_prompt) * 2)
            drawn = [self._prompt(context, growing, number + k) for k in range(count)]
            replies = yield Tolerant(ask for ask, _ in drawn)
            context.count("prompts", count)
            for (_, tags), reply in zip(drawn, replies, strict=True):
                if isinstance(reply, Exception):  # too long for the context, say: the others go on
                    context.count("prompts refused")
                else:
                    self._grow(now, context, reply[0], tags)
            number += count
        replies = yield Tolerant(self._answer_ask(row, context) for row in now.taken)
        return [*(self._answered(row, reply) for row, reply in zip(now.taken, replies, strict=True)), *now.dropped]

    def _prompt(self, context: Context, growing: Growing, number: int) -> tuple[Ask, Mapping[str, str | None]]:
        rng = context.rng("examples", number)
        own = rng.sample(growing.made, min(self.own, len(growing.made)))
        shown = [*rng.sample(list(growing.seeds), min(self.seeds, len(growing.seeds))), *own]
        first = shown[0]
        listed = "\n".join(f"{at}. {_flat(prompt_text(row))}" for at, row in enumerate(shown, 1))
        text = fill(
            context.prompts,
            self.prompt,
            f"self_instruct with `prompt: {self.prompt}`",
            examples=listed,
            count=str(self.per_prompt),
            leaf=(first.tags.get("leaf") or "").replace("/", " "),
        )
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p)
        tags = {name: first.tags[name] for name in self.keep_tags if name in first.tags}
        ask = Ask(
            model=self.model,
            messages=(Message(role="user", content=text),),
            sampling=sampling,
            fixed_seed=seed_of(context.seed, context.block, context.iteration, "propose", number),
        )
        return ask, tags if "{leaf}" in context.prompts[self.prompt] else {}

    def _grow(self, now: Round, context: Context, reply: Completion, tags: Mapping[str, str | None]) -> None:
        """Takes the proposals of one reply that are fit, up to the wanted number; keeps the others with reasons."""
        listed = proposals(reply.text)
        for at, text in enumerate(listed):
            row = Example(
                id=now.next_id,
                messages=(Message(role="user", content=text),),
                tags=tags,
                origin=Origin(block=self.name, model=self.model, iteration=context.iteration),
            )
            cut = reply.finish == "length" and at + 1 == len(listed)
            full = len(now.growing.made) >= self.rows
            reason = SURPLUS if full else CUT_INSTRUCTION if cut else self._unfit(text, now.growing.novelty)
            if reason:
                now.dropped.append(Dropped(row, reason))
            else:
                now.take(row)

    def _unfit(self, text: str, novelty: Novelty) -> str | None:
        said = words(text)
        if not said:
            return EMPTY_INSTRUCTION
        if len(said) < self.min_words:
            return SHORT
        if len(said) > self.max_words:
            return LONG
        flat = f" {' '.join(said)} "
        if any(f" {keyword.lower()} " in flat for keyword in self.keywords):
            return KEYWORD
        return None if novelty.add(text) else SIMILAR

    def _answer_ask(self, row: Example, context: Context) -> Ask:
        sampling = Sampling(max_tokens=self.response_max_tokens, temperature=self.response_temperature)
        seed = seed_of(context.seed, context.block, context.iteration, row.id, "answer")
        return Ask(model=self.responder or self.model, messages=row.messages, sampling=sampling, fixed_seed=seed)

    def _answered(self, row: Example, reply: Reply) -> Example | Dropped:
        if isinstance(reply, Exception):
            return Dropped(replace(row, fields={"problem": str(reply)}), NO_RESPONSE)
        answer = Message(role="assistant", content=reply[0].text.strip())
        whole = Example(id=row.id, messages=(*row.messages, answer), group=row.id, tags=row.tags, origin=row.origin)
        reason = unfit(reply[0], False, CUT_RESPONSE, EMPTY_RESPONSE)
        return Dropped(whole, reason) if reason else whole


def proposals(text: str) -> list[str]:
    """The instructions of a numbered list; the whole text where it has no numbers."""
    parts = _NUMBERED.split(text)
    found = parts[1:] if len(parts) > 1 else parts
    return [part.strip() for part in found]


def _flat(text: str) -> str:
    return " ".join(text.split())
