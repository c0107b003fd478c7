"""How `rewrite` asks for one row: a first question where there is one, tries for new answers, the pick among them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import Ask, Context, Reply, Request, Sampling, Tolerant
from harness.judges.textrules import Case, lengths
from harness.records.example import Example, Message
from harness.records.tasks import Task
from harness.synthesize._rewriting import COPIED, FINE, Said, matches, readable, refused
from harness.synthesize._wording import Material, from_pack, released

if TYPE_CHECKING:
    from harness.synthesize.rewrite import Rewrite

Asking = Generator[Sequence[Request], Sequence[Reply], Any]


@dataclass(frozen=True)
class Rewriter:
    """Asks for one row of a block; `task` is the row's, which brings a form and rules of its own."""

    block: Rewrite
    context: Context
    task: Task | None

    def rewritten(self, row: Example, place: int) -> Asking:
        """What the model says anew of the row's message at `place`, or why it says nothing."""
        material = self._material(row, place)
        entry = "rewrite_revise" if self.block.how == "critique" else f"rewrite_{self.block.how}"
        if self.block.how == "critique":
            critique = yield from self._ask_first("rewrite_critique", material)
            if isinstance(critique, Said):
                return critique
            if matches(self.context.prompts, "rewrite_critique.nothing", critique):
                return Said(why=FINE, replies=(critique,))
            material = replace(material, critique=critique)
        elif self.block.adaptive and self.block.released is None and f"{entry}.first" in self.context.prompts:
            first = yield from self._ask_first(f"{entry}.first", material)
            if isinstance(first, Said):
                return first
            if not matches(self.context.prompts, f"{entry}.when", first):
                return Said(why=FINE, replies=(first,))
        return (yield from self._candidates(entry, material))

    def _ask_first(self, entry: str, material: Material) -> Asking:
        """The text of a first, greedy question, or what it means for the row that there is none."""
        sampling = Sampling(max_tokens=self.block.max_tokens)
        messages = from_pack(self.context.prompts, entry, material)
        (reply,) = yield Tolerant([Ask(model=self.block.model, messages=messages, sampling=sampling)])
        return refused(reply) if isinstance(reply, Exception) else reply[0].text

    def _candidates(self, entry: str, material: Material) -> Asking:
        """Tries until one reply can be read, a bounded number of times; then picks and checks."""
        block, said = self.block, Said()
        sampling = Sampling(max_tokens=block.max_tokens, temperature=block.temperature, top_p=block.top_p, n=block.n)
        messages, pattern = self._told(entry, material)
        length = lengths(self.context.chats[block.counter] if block.counter else None)
        for attempt in range(1 + block.retries):
            (reply,) = yield Tolerant([Ask(model=block.model, messages=messages, sampling=sampling, draw=1 + attempt)])
            if isinstance(reply, Exception):
                return refused(reply)
            said = readable(reply, pattern, length)
            if said.candidates:
                return self._picked(said, material, length)
        return said

    def _told(self, entry: str, material: Material) -> tuple[tuple[Message, ...], str | None]:
        """The request, and the pattern by which its reply is read."""
        forced, prompts = not self.block.adaptive, self.context.prompts
        if self.block.released is not None:
            wording = released(self.block.released)
            return wording.conversation(material, forced=forced), wording.pattern
        return from_pack(prompts, entry, material, forced=forced), prompts.get(f"{entry}.parse")

    def _picked(self, said: Said, material: Material, length: Callable[[str], int]) -> Said:
        best = said.candidates[0]
        if self.block.pick == "longest":
            best = max(said.candidates, key=lambda candidate: candidate.score or 0.0)
        if best.text == material.answer.strip():
            return replace(said, why=COPIED)
        case = Case(
            answer=best.text,
            question=material.question,
            original=material.answer,
            checks=frozenset() if self.task is None else self.task.checks,
            length=length,
        )
        broken = self.block.rules.broken(case)
        return replace(said, why=broken) if broken else replace(said, text=best.text, why=None)

    def _material(self, row: Example, place: int) -> Material:
        found = row.fields.get("evidence") if self.block.evidence else None
        form = "" if self.task is None else self.task.format
        if self.block.released is not None and self.task is not None:
            form = released(self.block.released).formats.get(self.task.name, form)
        return Material(
            question="\n".join(m["content"] for m in row.messages[:place] if m["role"] != "system"),
            answer=row.messages[place]["content"],
            format=form,
            task="" if self.task is None else self.task.name,
            passages=tuple(str(text) for text in found) if isinstance(found, list | tuple) else (),
        )
