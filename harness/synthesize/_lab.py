"""What the two LAB blocks share: options, prompts and their replies, judges, and what became of every draft.

A draft is a row in the making. It goes down the pipeline until a stage gives it a reason to be dropped; reasons begin
with the stage's name, so the counts of a stage's report are the pipeline's waterfall. A reply that cannot be read is
never a rejection: it has a reason of its own.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import model_validator

from harness.blocks.base import ModelRole, OptionalRole, identity
from harness.blocks.kinds import Ask, Completion, Context, Item, Reply, Request, Sampling, Synthesizer, Tolerant
from harness.blocks.prompts import fill
from harness.records import named
from harness.records.example import Dropped, Example, Message, Origin
from harness.records.values import Count, DataFile
from harness.synthesize._drafts import CUT, NOTHING, REJECTED, UNREADABLE, Draft, alive, at
from harness.synthesize._released import Released, released

Steps = Generator[Sequence[Request], Sequence[Reply], None]
WRITTEN, DIFFERENT = "1 questions written", "2 questions different"
_WORDS = {"yes": 1.0, "no": 0.0}
_AROUND = " \t\n.,;:!*_`\"'“”()[]"


class LabBlock(Synthesizer):
    """Options that both blocks have."""

    reads_prompts: ClassVar[bool] = True
    shard: ClassVar[int | None] = 8
    """Items are a leaf's or chunk's whole pipeline, hundreds of requests each."""

    model: ModelRole = identity("teacher", description="The model that writes questions and answers.")
    judge: OptionalRole = identity(None, description="The model that judges them; by default the same one.")
    draws: Count = identity(1, description="Completions per question prompt; more than one needs a temperature.")
    temperature: float = identity(
        0.7, ge=0, description="Of questions.", source="not in 2403.01081; the released pipelines use 0"
    )
    answer_temperature: float = identity(0.0, ge=0, description="Of answers.", source="released pipelines")
    max_tokens: Count = identity(
        4096, description="Cap on each reply of the writer.", unit="tokens", source="released pipelines"
    )
    judge_max_tokens: Count = identity(
        4096, description="Cap on each verdict.", unit="tokens", source="released pipelines"
    )
    min_rating: float = identity(2, description="Lowest rating of a pair that stays.", source="released pipelines")
    best: float = identity(
        3, gt=1, description="Top of the rating scale, which begins at 1.", source="2403.01081 §3.2.1"
    )
    released: Mapping[str, DataFile] = identity(
        {}, description="Released prompts (datasets_cfg/lab-sdg/) in place of ours, by stage, such as faithfulness."
    )

    stages: ClassVar[tuple[str, ...]] = ()
    """Prompts that the block may ask with: the pack's entries, without `lab_`."""

    @abstractmethod
    def expects_by_leaf(self, rows: Iterable[Example]) -> dict[str, int]:
        """Rows that are asked for, by leaf, before any judge drops some: for forecasts, from a taxonomy's rows."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.draws > 1 and self.temperature == 0:
            raise ValueError("draws above 1 with temperature 0 would all be the same: set a temperature")
        unknown = self.released.keys() - set(self.stages)
        if unknown:
            raise ValueError(f"released: there is no stage {min(unknown)!r}; stages: {', '.join(self.stages)}")
        if not 1 <= self.min_rating <= self.best:
            raise ValueError("min_rating should lie on the scale from 1 to `best`")
        return self

    def identity_options(self) -> dict[str, Any]:
        """Released prompts enter by their content."""
        sums = {stage: named.digest(file, f"released.{stage}") for stage, file in sorted(self.released.items())}
        return super().identity_options() | {"released": sums}


@dataclass(frozen=True)
class Bench:
    """Asks and reads for one item of a block."""

    block: LabBlock
    context: Context
    item: Item

    @cached_property
    def released(self) -> Mapping[str, Released]:
        return {stage: released(file, f"released.{stage}") for stage, file in self.block.released.items()}

    def has(self, stage: str) -> bool:
        """True where the pack has a prompt for the stage."""
        return f"lab_{stage}" in self.context.prompts

    def ask(self, stage: str, values: Mapping[str, str], sampling: Sampling, draw: int, *, judge: bool = False) -> Ask:
        """The request of a stage. `draw` keeps its random numbers apart from those of the item's other requests."""
        role = (self.block.judge or self.block.model) if judge else self.block.model
        if stage in self.released:
            text, system = self.released[stage].render(values), None
        else:
            needed = f"{self.block.name}, stage {stage},"
            text = fill(self.context.prompts, f"lab_{stage}", needed, **values)
            system = self.context.prompts.get(f"lab_{stage}.system")
        turns = (Message(role="system", content=system),) if system else ()
        return Ask(model=role, messages=(*turns, Message(role="user", content=text)), sampling=sampling, draw=draw)

    def found(self, stage: str, text: str) -> list[tuple[str, ...]]:
        """What a reply holds, by the prompt's own form; without one, the whole text. Empty parts do not count."""
        return [value for value in self._values(stage, text) if all(value)]

    def parts(self, stage: str, completion: Completion) -> tuple[list[tuple[str, ...]], list[tuple[str, str]]]:
        """The parts of a completion that can be used, and the texts that cannot, each with its reason.

        Empty parts are among those, and the one that the length cap cut in two.
        """
        text, cut = completion.text, completion.finish == "length"
        every, lost = self._values(stage, text), list[tuple[str, str]]()
        if cut:
            end = self._end(stage, text)
            last = (" ".join(every.pop()) if every else text) if end is None else text[end:]
            lost += [(last.strip(), CUT)] if last.strip() else []
        whole = [value for value in every if all(value)]
        lost = [(" ".join(value).strip(), NOTHING) for value in every if not all(value)] + lost
        return whole, lost if whole or lost else [(text, CUT if cut else NOTHING)]

    def _values(self, stage: str, text: str) -> list[tuple[str, ...]]:
        if stage in self.released:
            values = self.released[stage].found(text)
        else:
            pattern = self._pattern(stage)
            matches = re.findall(pattern, text) if pattern else [text]
            values = [match if isinstance(match, tuple) else (match,) for match in matches]
        return [tuple(part.strip() for part in value) for value in values]

    def _end(self, stage: str, text: str) -> int | None:
        """Where the last whole part of a reply ends; None where nothing tells where it would have ended."""
        if stage in self.released:
            return self.released[stage].end(text)
        pattern = self._pattern(stage)
        return max((match.end() for match in re.finditer(pattern, text)), default=0) if pattern else None

    def _pattern(self, stage: str) -> str | None:
        return self.context.prompts.get(f"lab_{stage}.parse")

    def verdict(self, stage: str, text: str, low: float, high: float) -> float | None:
        """The one number (YES is 1, NO is 0) that a verdict states; None where it states none, several, or another."""
        numbers = {_number(value[0]) for value in self.found(stage, text)}
        value = numbers.pop() if len(numbers) == 1 else None
        return value if value is not None and low <= value <= high else None

    def left(self, stage: str, drafts: Sequence[Draft]) -> None:
        """Counts what is left after a stage, for the report: the pipeline's waterfall."""
        self.context.count(stage, len(alive(drafts)))

    # --- stages -------------------------------------------------------------------------------------------------------
    def judged(self, drafts: Sequence[Draft], stage: str, name: str, low: float, high: float, keep: float) -> Steps:
        """Asks for a verdict on each living draft; score `name`, dropped below `keep`."""
        going = alive(drafts)
        sampling = Sampling(max_tokens=self.block.judge_max_tokens)
        replies = yield Tolerant(
            self.ask(stage, draft.values, sampling, at(stage, self.block.stages, draft.number), judge=True)
            for draft in going
        )
        for draft, reply in zip(going, replies, strict=True):
            if isinstance(reply, Exception):
                draft.drop(f"{name} judge", f"failed ({type(reply).__name__})", str(reply))
                continue
            text = reply[0].text
            draft.notes[f"{name}_judged"] = text
            draft.scores[name] = self.verdict(stage, text, low, high)
            score = draft.scores[name]
            if score is None:
                draft.drop(f"{name} judge", UNREADABLE)
            elif score < keep:
                draft.drop(f"{name} judge", REJECTED if high == 1 else f"{score:g} of {high:g}")

    def answered(self, drafts: Sequence[Draft], stage: str) -> Steps:
        """Asks for the answer of each living draft."""
        going = alive(drafts)
        sampling = Sampling(max_tokens=self.block.max_tokens, temperature=self.block.answer_temperature)
        replies = yield Tolerant(
            self.ask(stage, draft.values, sampling, at("answer", (*self.block.stages, "answer"), draft.number))
            for draft in going
        )
        for draft, reply in zip(going, replies, strict=True):
            if isinstance(reply, Exception):
                draft.drop("answer", f"failed ({type(reply).__name__})", str(reply))
                continue
            parts = self.found(stage, reply[0].text)
            if reply[0].finish == "length":
                draft.drop("answer", CUT, reply[0].text)
            elif not parts:
                draft.drop("answer", NOTHING, reply[0].text)
            else:
                draft.values["response"] = parts[0][0]
                self.context.count("further answers in a reply, not used", len(parts) - 1)

    def row(self, draft: Draft, kind: str, fields: Mapping[str, Any], asked: str) -> Example | Dropped:
        """The finished row, or the draft with the reason why it is none."""
        turns = [Message(role="user", content=asked)] if asked else []
        answer = draft.values.get("response")
        if answer and turns:
            turns.append(Message(role="assistant", content=answer))
        name = f"{self.item.id}/{self.context.block}/{self.context.iteration}.{draft.number}"
        tags = {"leaf": str(self.item.data["leaf"]), "leaf_kind": kind, "category": str(self.item.data["category"])}
        row = Example(
            id=name,
            messages=tuple(turns),
            group=name,
            fields={**fields, **draft.notes},
            scores=draft.scores,
            tags={**tags, "part": "made"},
            origin=Origin(
                block=self.block.name,
                parents=draft.parents,
                model=self.block.model,
                iteration=self.context.iteration,
            ),
        )
        return row if draft.reason is None else Dropped(row, draft.reason)


def _number(text: str) -> float | None:
    word = text.strip(_AROUND).casefold()
    if word in _WORDS:
        return _WORDS[word]
    try:
        return float(word)
    except ValueError:
        return None
