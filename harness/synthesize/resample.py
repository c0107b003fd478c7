"""`resample`: more or fewer rows of a source, and one system turn for all: the recipes of LAB's data mixing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Self

from pydantic import StringConstraints, model_validator

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Drop, Item, Made, Reply, Request, Synthesizer
from harness.records.example import Example, Message, Origin
from harness.records.values import Count
from harness.synthesize._twice import again

LEFT_OUT = "not drawn"


class Resample(Synthesizer):
    """Draws `rows` or `times` as many rows, over all or per value of a tag, and writes one system turn over all.

    Without replacement each row comes as often as the next, one more or less (so 250 % is every row twice and a random
    half of them a third time); rows that are not drawn are kept as dropped: `not drawn`. With replacement it is the
    released mixing, where 30 of 150 rows are about 27 different ones. A repeated row has an id of its own. The released
    caps and floors: `rows: 30, per: leaf` for skills; knowledge brought up to 3 % of a large set by `rows` or `times`.
    """

    name: ClassVar[str] = "resample"

    rows: Count | None = identity(None, description="Rows that come out (per value, with `per`).")
    times: float | None = identity(None, gt=0, description="Rows that come out, as a multiple of those that came in.")
    per: str | None = identity(None, description="A tag, such as leaf: each of its values by itself.")
    replacement: bool = identity(False, description="Draw with replacement.", source="released data mixing")
    system: Annotated[str, StringConstraints(min_length=1)] | None = identity(
        None, description="A system turn for every row, in place of its own.", source="released data mixing"
    )

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.rows is not None and self.times is not None:
            raise ValueError("rows and times both say how many come out: set one")
        return self

    def expects(self, total: int, leaves: int | None) -> int | None:
        """Rows that come out of `total` of so many leaves, for forecasts; None where that is not known of `per`."""
        if self.rows is None:
            return round((self.times or 1.0) * total)
        if self.per is None:
            return self.rows
        return self.rows * leaves if self.per == "leaf" and leaves is not None else None

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per row, with how often it is drawn."""
        given = again(rows)
        sizes = Counter(self._group(row) for row in given)
        drawn = {name: self._drawn(size, name, context) for name, size in sizes.items()}
        seen: Counter[str] = Counter()
        for row in given:
            name = self._group(row)
            yield Item(id=row.id, row=row, data={"times": drawn[name].get(seen[name], 0)})
            seen[name] += 1

    def _group(self, row: Example) -> str:
        return str(row.tags.get(self.per)) if self.per else ""

    def _drawn(self, size: int, name: str, context: Context) -> dict[int, int]:
        """Row number to how often it comes out."""
        wanted = self.rows if self.rows is not None else round((self.times or 1.0) * size)
        rng = context.rng(name)
        if self.replacement:
            chosen = rng.choices(range(size), k=wanted)
            return Counter(chosen)
        whole, rest = divmod(wanted, size)
        extra = set(rng.sample(range(size), rest))
        return {index: whole + (index in extra) for index in range(size)}

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Repeats the row; asks nothing."""
        yield from ()
        row, times = item.row, int(item.data["times"])
        if row is None or times == 0:
            return Drop(LEFT_OUT)
        messages = row.messages
        if self.system is not None:
            said = [turn for turn in messages if turn["role"] != "system"]
            messages = (Message(role="system", content=self.system), *said)
        origin = Origin(block=self.name, parents=(row.id,), iteration=context.iteration)
        first = replace(row, messages=messages)
        return [first, *(replace(first, id=f"{row.id}/{context.block}.{n}", origin=origin) for n in range(1, times))]
