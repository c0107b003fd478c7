"""Rows of a user's own suite: read with the line of each, and every mistake of the file told at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ConfigError, Problem
from harness.evaluate._checks import Check, bad_reference, written
from harness.records import named
from harness.records.example import Message
from harness.records.values import DataFile

FIELDS = ("id", "prompt", "turns", "messages", "system", "category", "reference", "rubric", "gold", "check")
_CONVERSATION = ("prompt", "turns", "messages")
_SHOWN = 20
_NEAR = 0.8
"""How much an unknown field must be like a known one to count as a slip of the pen; other columns are left alone."""


@dataclass(frozen=True)
class Row:
    """One question. `accepted` and `gold` have one entry per turn: references of which any will do; a right answer."""

    id: str | None
    turns: tuple[str, ...]
    before: tuple[Message, ...] = ()
    system: str | None = None
    category: str = ""
    accepted: tuple[tuple[Any, ...], ...] = ()
    gold: tuple[str | None, ...] = ()
    rubric: str | None = None
    check: Check | None = None


class Form(BaseModel):
    """What the suite says of all its rows.

    Attributes:
        columns: renames, from the field that is expected to the column of the file.
        check: None where a judge grades.
        rubric: for rows without one of their own.
        scale: best grade, where it is not the judge's usual one: each row then needs a rubric.
    """

    model_config = ConfigDict(frozen=True)

    columns: dict[str, str] = {}
    check: Check | None = None
    rubric: str | None = None
    scale: int | None = None


@dataclass
class _Reader:
    form: Form
    problems: list[Problem] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    file: str = ""
    line: int = 0
    unit: str = "line"  # what `line` counts: lines of JSON lines, rows of a list or a table

    def say(self, message: str) -> None:
        rows = self.unit == "row" and self.line > 0
        text = f"row {self.line}: {message}" if rows else message
        self.problems.append(Problem(text, self.file, None if rows else self.line or None))


def read(file: DataFile, form: Form) -> list[Row]:
    """The rows of a suite in the order of the file: JSON lines, a JSON list or CSV; gzip or not.

    Raises:
        ConfigError: every mistake, each with its line.
        UserError: the file is missing, or was changed.
    """
    reader = _Reader(form, file=named.place(file))
    rows: list[Row] = []
    for position, (line, raw) in enumerate(_raw(file, reader)):
        reader.line = line
        renamed = {new: raw[old] for new, old in form.columns.items() if old in raw}
        row = _row({**raw, **renamed}, position, reader)
        rows += [] if row is None else [row]
    if not rows and not reader.problems:
        reader.line = 0
        reader.say("the file has no rows")
    if reader.problems:
        more = len(reader.problems) - _SHOWN
        rest = [Problem(f"and {more} more mistakes like these", reader.file)] if more > 0 else []
        raise ConfigError([*reader.problems[:_SHOWN], *rest])
    return rows


def _raw(file: DataFile, reader: _Reader) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with their line (JSON lines) or position from 1 on."""
    if not named.local(file, "path").name.removesuffix(".gz").endswith(".jsonl"):
        reader.unit = "row"
        yield from enumerate(named.rows(file, "path"), start=1)
        return
    for number, line in named.lines(file, "path"):
        reader.line = number
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            reader.say(f"not valid JSON: {error.msg} (column {error.colno})")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            reader.say("a mapping with the fields of one question is expected on each line")


def _row(raw: Mapping[str, Any], position: int, reader: _Reader) -> Row | None:
    before = len(reader.problems)
    for slip in sorted(raw.keys() - set(FIELDS) - set(reader.form.columns.values())):
        near = difflib.get_close_matches(slip, FIELDS, n=1, cutoff=_NEAR)
        if near:
            reader.say(f"unknown field {slip!r}; did you mean {near[0]!r}?")
    system, said, turns = _conversation(raw, reader)
    check = _own_check(raw, reader) or reader.form.check
    name = _text(raw, "id", reader, numbers=True)
    known = str(position) if name is None else name
    if reader.ids.setdefault(known, reader.line) != reader.line:
        own = f"the id {known!r}" if name is not None else f"the position of this row without an id, {known},"
        reader.say(f"{own} is that of {reader.unit} {reader.ids[known]} too: ids must be unique")
    row = Row(
        id=name,
        turns=turns,
        before=said,
        system=_text(raw, "system", reader) or system,
        category=_text(raw, "category", reader, numbers=True) or "",
        accepted=_accepted(raw, len(turns), reader) if turns else (),
        gold=_gold(raw, len(turns), reader) if turns else (),
        rubric=_text(raw, "rubric", reader) or reader.form.rubric,
        check=check,
    )
    if check is None and row.rubric is None and reader.form.scale is not None:
        reader.say(f"`scale: {reader.form.scale}` belongs to a rubric, and neither this row nor the suite has one")
    if len(reader.problems) == before and check is not None:
        _check_references(row, check, reader)
    return row if len(reader.problems) == before else None


def _conversation(raw: Mapping[str, Any], reader: _Reader) -> tuple[str | None, tuple[Message, ...], tuple[str, ...]]:
    """System turn, turns that were said before, and the user turns to ask; no turns where there is a mistake."""
    nothing = (None, (), ())
    given = [name for name in _CONVERSATION if raw.get(name) is not None]
    if len(given) != 1:
        reader.say(f"a row needs one of prompt, turns and messages; this one has {' and '.join(given) or 'none'}")
        return nothing
    value = raw[given[0]]
    if given[0] == "messages":
        return _messages(value, reader) or nothing
    turns = [value] if given[0] == "prompt" else value
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        reader.say("prompt should be a text" if given[0] == "prompt" else "turns should be a list of texts")
        return nothing
    return None, (), tuple(turns)


def _messages(value: Any, reader: _Reader) -> tuple[str | None, tuple[Message, ...], tuple[str, ...]] | None:
    good = isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    )
    roles = [m["role"] for m in value] if good else []
    if not roles or roles[-1] != "user" or "system" in roles[1:] or set(roles) - {"system", "user", "assistant"}:
        reader.say(
            "messages should be a list of {role, content}: user and assistant in turn, a system message only at the "
            "start, and a user message at the end, which is what is asked"
        )
        return None
    system = value[0]["content"] if roles[0] == "system" else None
    said = value[1:-1] if system is not None else value[:-1]
    return system, tuple(Message(role=m["role"], content=m["content"]) for m in said), (value[-1]["content"],)


def _accepted(raw: Mapping[str, Any], turns: int, reader: _Reader) -> tuple[tuple[Any, ...], ...]:
    """Per turn the references that are accepted. One question: a list holds alternatives; several: one per turn."""
    value = raw.get("reference")
    if value is None:
        return ((),) * turns
    if turns == 1:
        return (_alternatives(value),)
    value = value if isinstance(value, list) else [None] * (turns - 1) + [value]
    if len(value) != turns:
        reader.say(f"reference has {len(value)} entries for {turns} turns: give one per turn (null: not checked)")
        return ((),) * turns
    return tuple(_alternatives(one) for one in value)


def _alternatives(value: Any) -> tuple[Any, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(written(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in values)


def _gold(raw: Mapping[str, Any], turns: int, reader: _Reader) -> tuple[str | None, ...]:
    value = raw.get("gold")
    if value is None:
        return (None,) * turns
    texts = value if isinstance(value, list) else [None] * (turns - 1) + [value]
    if len(texts) != turns or not all(text is None or isinstance(text, str) for text in texts):
        reader.say("gold should be a right answer, or a list with one per turn")
        return (None,) * turns
    return tuple(texts)


def _own_check(raw: Mapping[str, Any], reader: _Reader) -> Check | None:
    value = raw.get("check")
    if value is None:
        return None
    if reader.form.check is None:
        reader.say("this row has a check, but the suite has none: write `check:` in the suite's file too")
        return None
    try:
        own = Check.model_validate(value)
    except ValidationError as error:
        reader.say(f"check: {error.errors(include_url=False)[0]['msg'].removeprefix('Value error, ')}")
        return None
    if "block" in (own.kind, reader.form.check.kind):
        reader.say("a check by a block is for the whole suite: it cannot stand beside others")
        return None
    return own


def _check_references(row: Row, check: Check, reader: _Reader) -> None:
    if check.kind == "block" or check.form is not None:
        return
    if not any(row.accepted):
        reader.say(f"check {check.kind} needs a `reference` in each row")
    for reference in (reference for accepted in row.accepted for reference in accepted):
        if reason := bad_reference(check, reference):
            reader.say(reason)


def _text(raw: Mapping[str, Any], name: str, reader: _Reader, *, numbers: bool = False) -> str | None:
    value = raw.get(name)
    if numbers and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str):
        return value or None
    reader.say(f"{name} should be text, not {json.dumps(value, ensure_ascii=False)[:40]}")
    return None


def graded_turns(row: Row, checks: bool) -> Sequence[int]:
    """The turns (from 0 on) that get a grade: the last where a judge grades or no turn has a reference of its own."""
    own = [turn for turn, accepted in enumerate(row.accepted) if accepted] if checks else []
    return own or [len(row.turns) - 1]
