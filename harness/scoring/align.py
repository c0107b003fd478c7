"""Puts the answers of a file in the order of a suite's items, and notes what does not fit.

An id is the item's own one (`mt_bench/81`, its question id 81) or its index in the suite's source order, counted from
0 over the whole source whatever `limit` or `dev` leave of it. Which of the two a file means is decided for the whole
file: the own ids, unless more of its ids are indexes. Where both readings fit every id and differ, a note says which
was taken.

An item without an entry is graded as missing and counted; an entry that belongs to no item of the source is a mistake.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.blocks.kinds import Answer, EvalItem, Suite
from harness.errors import Problem
from harness.judges._tasks import source_id
from harness.scoring.forms import Entry, OutputsFile

ABSENT = "not in the file of outputs"
NO_OUTPUT = "the file of outputs has null here"


@dataclass(frozen=True)
class Aligned:
    """Answers in the order of the items, and sentences about how the file was read."""

    answers: tuple[Answer, ...]
    notes: tuple[str, ...]


class Items:
    """A suite's items of a split, and all names by which a file may call them."""

    def __init__(self, suite: Suite, split: str) -> None:
        self.suite = suite
        self.items = suite.items(split)
        whole = _whole(suite, split)
        self.known = {item.id: item for item in (*whole, *self.items)}
        self.by_index = {str(index): item.id for index, item in enumerate(whole)}
        self.by_own = {item.id: item.id for item in self.known.values()}
        for item in self.known.values():
            own = source_id(item)
            if own is not None:
                self.by_own.setdefault(str(own), item.id)
        self.by_text: dict[str, list[str]] = defaultdict(list)
        for item in whole:
            self.by_text[item.turns[0]].append(item.id)

    def aligned(self, file: OutputsFile, problems: list[Problem]) -> Aligned:
        """The answers of a file; mistakes (unknown and double entries, wrong numbers of turns) go to `problems`."""
        names, notes = self._names(file.entries)
        found: dict[str, Entry] = {}
        for entry, name in zip(file.entries, names, strict=True):
            problem = self._problem(entry, name, found, file)
            if problem is not None:
                problems.append(Problem(problem, str(file.path), entry.line))
            elif name is not None:
                found[name] = entry
        wanted = {item.id for item in self.items}
        outside = len(found.keys() - wanted)
        if outside:
            notes = [*notes, f"{outside:,} entries are of items that this suite leaves out"]
        return Aligned(tuple(self._answer(item, found.get(item.id)) for item in self.items), tuple(notes))

    def _names(self, entries: Sequence[Entry]) -> tuple[list[str | None], list[str]]:
        """The item that each entry is about, or None."""
        keys = [entry.key for entry in entries if entry.key is not None]
        own = sum(key in self.by_own for key in keys)
        index = sum(key in self.by_index for key in keys)
        table = self.by_own if own >= index else self.by_index
        notes = []
        if keys and own == index == len(keys) and any(self.by_own[key] != self.by_index[key] for key in keys):
            notes.append("its ids are read as the items' own ids, though they could be indexes too")
        texts = _Texts(self.by_text)
        return [texts.next(e.instruction) if e.key is None else table.get(e.key) for e in entries], notes

    def _problem(self, entry: Entry, name: str | None, found: Mapping[str, Entry], file: OutputsFile) -> str | None:
        if name is None:
            what = f"id {entry.key!r}" if entry.key is not None else f"instruction {_short(entry.instruction or '')!r}"
            return f"{what} is of no item of this suite{self._hint(entry)}"
        if name in found:
            several = (
                f": the file has answers of several models ({', '.join(file.models[:4])})" if file.models[1:] else ""
            )
            return f"a second answer to {name}, which line {found[name].line} answers already{several}"
        if entry.outputs is None:
            return None
        return self.suite.misfit(self.known[name], Answer(item=name, outputs=entry.outputs, data=entry.data))

    def _hint(self, entry: Entry) -> str:
        if entry.key is None:
            return ""
        last = len(self.by_index) - 1
        if entry.key == str(last + 1):
            return f" (indexes count from 0 to {last:,})"
        example = next(iter(self.by_own), "")
        return f" (its ids are like {example}, or an index from 0 to {last:,})"

    def _answer(self, item: EvalItem, entry: Entry | None) -> Answer:
        if entry is None or entry.outputs is None:
            return Answer(item=item.id, outputs=(), data={"error": ABSENT if entry is None else NO_OUTPUT})
        return Answer(item=item.id, outputs=entry.outputs, data=dict(entry.data))


class _Texts:
    """Items by instruction; instructions that several items share are taken in order."""

    def __init__(self, known: Mapping[str, list[str]]) -> None:
        self._known = known
        self._used: dict[str, int] = defaultdict(int)

    def next(self, text: str | None) -> str | None:
        names = self._known.get(text or "", [])
        if not names:
            return None
        place = min(self._used[text or ""], len(names) - 1)
        self._used[text or ""] += 1
        return names[place]


def _whole(suite: Suite, split: str) -> list[EvalItem]:
    """The suite's source in its order, without what `limit` and `dev` leave out."""
    fields = {name: None for name in ("limit", "dev") if getattr(suite, name, None) is not None}
    if not fields:
        return suite.items(split)
    whole = suite.model_copy(update=fields)
    return whole.items(split if split in whole.splits() else "test")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
