"""`magpie`: instructions that an aligned model writes itself when it is given nothing but the opening of a user turn.

2406.08464. The model sees its chat template up to where the user's text would begin and samples that text; then it, or
another model, answers. Every row starts from nothing: no seeds, no task prompt.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Item, Made, Reply, Request
from harness.blocks.prompts import fill
from harness.records.cut import CUT_ANSWER, with_cuts
from harness.records.example import Dropped, Example, Message, Origin
from harness.records.values import Count
from harness.synthesize._converse import Conversing, Decoding, Text, Turn, released_stops
from harness.synthesize._focus import ROOT, scheduled, weights
from harness.synthesize._teachers import GRIDS, TEACHERS, Cell, GridName, TeacherName


class Magpie(Conversing):
    """Self-written instructions with their answers, `turns` of them.

    A user turn ends at any token that the template writes around turns, never at a word such as `assistant` (the
    released code's textual stop cuts questions that mention one); `stop` adds texts, for instance a line break. A row
    holds the conversation only: a system turn steers what is asked, not how it is answered.

    `family` takes the settings that the authors sampled a family of teachers with (table in docs/recipes/magpie.md); an
    option that is given beside it counts instead. Tags: `category` and `asked_language`, where they were asked for.
    `fields.made`: how each turn was sampled (temperature, top-p, seed, tokens, why it ended, hash of the template).
    """

    name: ClassVar[str] = "magpie"
    version: ClassVar[int] = 3
    reads_rows: ClassVar[bool] = False

    rows: Count = identity(1000, description="Attempts; the rows are what the drops leave.")
    family: TeacherName | None = identity(
        None, description="Settings of a teacher's family, as released.", source="released scripts, b734a36"
    )
    grid: GridName | tuple[Cell, ...] | None = identity(
        None,
        description="Decoding settings spread over the attempts: air, pro, or a list of {temperature, top_p, weight}.",
        source="2406.08464 Table 7",
    )
    temperature: float = identity(1.0, gt=0, description="Of the instructions.", source="2406.08464 Table 7")
    top_p: float = identity(1.0, gt=0, le=1, description="Of the instructions.", source="2406.08464 Table 7")
    released_stops: bool = identity(
        False,
        description="End instructions where the released code does: at `assistant`, mostly also at a line end.",
    )
    prefix: Text | None = identity(
        None, description="The literal text before a user's first turn, instead of what the chat template writes."
    )
    system: Text | None = identity(
        None, description="A system turn before every instruction.", source="2406.08464 §2.2"
    )
    domains: tuple[Text, ...] = identity(
        (),
        description="Subjects that attempts are steered to in turn, by the prompt `steer`.",
        source="2406.08464 Fig. 2",
    )
    languages: tuple[Text, ...] = identity(
        (),
        description="Languages that attempts are steered to in turn, by the prompt `steer_language`.",
        source="2406.08464 Fig. 15",
    )
    focus: Literal["none", "feedback"] = identity(
        "none", description="`feedback`: a system turn steers towards weak categories of the last dev evaluation."
    )
    turns: Count = identity(
        1, description="User turns per row; those after the first follow the conversation.", source="2406.08464 §2.2"
    )

    @model_validator(mode="after")
    def _of_family(self) -> Self:
        """Options of the named family take the places of defaults; what is given counts."""
        if self.family is not None:
            known = TEACHERS[self.family]
            prefix = {} if known.prefix is None or self._steers() else {"prefix": known.prefix}
            own = {} if self.grid is None else {"temperature": self.temperature, "top_p": self.top_p}
            heat = {"first_divisor": None} if self.first_temperature is not None else {}
            for name, value in {**known.options, **prefix, **own, **heat}.items():
                if name not in self.model_fields_set:
                    self.__dict__[name] = value  # the class is frozen, and this is its making
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.grid is not None and {"temperature", "top_p"} & self.model_fields_set:
            raise ValueError("`grid` gives every attempt its temperature and top_p: leave those two out")
        if self.grid == ():
            raise ValueError("`grid` is empty: give at least one {temperature, top_p}")
        if self.prefix is not None and self._steers():
            raise ValueError("`prefix` is literal: what steers (system, domains, languages, focus) has no place in it")
        if self.domains and self.focus != "none":
            raise ValueError("`domains` and `focus` both choose what is asked about: give one of them")
        return self

    def _steers(self) -> bool:
        return bool(self.system or self.domains or self.languages or self.focus != "none")

    def uses_feedback(self) -> bool:
        """True with `focus: feedback`."""
        return self.focus == "feedback"

    def stops(self) -> tuple[str, ...]:
        """Texts that end an instruction, those of the released code among them if asked for."""
        if not self.released_stops:
            return self.stop
        newline = TEACHERS[self.family].newline if self.family else True
        return (*self.stop, *released_stops(newline))

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per attempt. Without any feedback yet, in a first iteration say, nothing is steered."""
        categories = context.feedback.categories if self.uses_feedback() and context.feedback else ()
        shares = weights(categories) if categories else {}
        grid = self._grid()
        odds = {str(at): cell.weight / sum(c.weight for c in grid) for at, cell in enumerate(grid)}
        for index in range(self.rows):
            cell = grid[int(scheduled(odds, index, ROOT))]
            data: dict[str, Any] = {"temperature": cell.temperature, "top_p": cell.top_p}
            if shares or self.domains:
                data["category"] = scheduled(shares, index) if shares else self.domains[index % len(self.domains)]
            if self.languages:
                data["language"] = self.languages[index // max(1, len(self.domains)) % len(self.languages)]
            item = Item(id=f"{context.block}/{context.iteration}/{index}", data=data)
            if index == 0:
                self.check_prefix(context, self._decoding(item, context))
            yield item

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Asks for the user turn, then for the answer to it, as often as there are turns."""
        messages: tuple[Message, ...] = ()
        made: list[Mapping[str, Any]] = []
        for number in range(self.turns):
            decoding = self._decoding(item, context)
            if number:
                decoding = self.later(context, decoding.temperature, decoding.top_p)
            last = number + 1 == self.turns
            turn: Turn = yield from self.talk(item.id, context, messages, decoding, number, last)
            messages = turn.messages
            made.append(turn.made)
            row = self._row(item, context, messages, made, turn.cut)
            if turn.reason:
                return [Dropped(row, turn.reason)]
        return [row]

    def _grid(self) -> Sequence[Cell]:
        if isinstance(self.grid, str):
            return GRIDS[self.grid]
        return self.grid or (Cell(temperature=self.temperature, top_p=self.top_p),)

    def _decoding(self, item: Item, context: Context) -> Decoding:
        by = "magpie with `focus: feedback`" if self.uses_feedback() else "magpie with `domains`"
        turns = [self.system] if self.system else []
        if "category" in item.data:
            turns.append(fill(context.prompts, "steer", by, category=str(item.data["category"])))
        if "language" in item.data:
            by = "magpie with `languages`"
            turns.append(fill(context.prompts, "steer_language", by, language=str(item.data["language"])))
        return Decoding(
            temperature=float(item.data["temperature"]),
            top_p=float(item.data["top_p"]),
            system="\n".join(turns) or None,
            prefix=self.prefix if not turns else None,
        )

    def _row(
        self,
        item: Item,
        context: Context,
        messages: Sequence[Message],
        made: Sequence[Mapping[str, Any]],
        cut: bool,
    ) -> Example:
        steered = {"category": item.data.get("category"), "asked_language": item.data.get("language")}
        return Example(
            id=item.id,
            messages=tuple(messages),
            group=item.id,
            fields=with_cuts({"made": list(made)}, **{CUT_ANSWER: cut}),
            tags={name: str(value) for name, value in steered.items() if value is not None},
            origin=Origin(block=self.name, model=self.model, iteration=context.iteration),
        )
