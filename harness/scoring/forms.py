"""The forms in which answers come: what each looks like, and what an entry of it says.

| form | an entry |
|---|---|
| plain | `{"id": 17, "output": "..."}`; `output` is a list of texts for items of several turns, null for no answer |
| alpaca-eval | `{"instruction": "...", "output": "..."}` (`model_outputs.json`), found by its instruction |
| FastChat | `{"question_id": 81, "choices": [{"turns": ["...", "..."]}]}` (`model_answer/*.jsonl`) |
| lm-eval | `{"doc_id": 17, "resps": [["..."]]}` (`samples_*.jsonl` of `--log_samples`) |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import Problem
from harness.scoring import rowfile
from harness.scoring.rowfile import Line

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One answer as a file gives it. `outputs` is None where the file says that there is none.

    An entry is found by its `key` (an id or an index), or by its `instruction` where it has no id.
    """

    line: int
    key: str | None
    outputs: tuple[str, ...] | None
    instruction: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OutputsFile:
    """A file of answers that could be read."""

    path: Path
    form: str
    models: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


class _Bad(ValueError):
    """An entry that is not what its form says."""


@dataclass(frozen=True)
class _Form:
    name: str
    keys: frozenset[str]
    read: Callable[[Line], Entry]
    model: str = ""

    def fits(self, row: Mapping[str, Any]) -> bool:
        return self.keys <= row.keys()


def read_outputs(path: Path, problems: list[Problem]) -> OutputsFile | None:
    """The answers of a file; None where it has none that can be read. Mistakes are noted in `problems`."""
    lines = rowfile.read(path, problems)
    if not lines:
        return None
    form = max(_FORMS, key=lambda f: sum(f.fits(line.row) for line in lines))
    if not any(form.fits(line.row) for line in lines):
        problems.append(Problem(_unknown(lines[0].row), str(path), lines[0].number))
        return None
    entries = []
    for line in lines:
        try:
            entries.append(_entry(form, line))
        except _Bad as error:
            problems.append(Problem(str(error), str(path), line.number))
    models = dict.fromkeys(str(line.row[form.model]) for line in lines if form.model and line.row.get(form.model))
    whole = [_whole(entry) for entry in entries]
    broken = sum(one is not other for one, other in zip(whole, entries, strict=True))
    notes = (f"{broken:,} outputs held half of a character (a lone surrogate), read as \N{REPLACEMENT CHARACTER}",)
    return OutputsFile(
        path=path, form=form.name, models=tuple(models), entries=tuple(whole), notes=notes if broken else ()
    )


def _whole(entry: Entry) -> Entry:
    """The entry with texts that can be written as UTF-8: programs that cut texts leave halves of characters."""
    texts = tuple(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text) for text in entry.outputs or ())
    return entry if entry.outputs is None or texts == entry.outputs else replace(entry, outputs=texts)


def _entry(form: _Form, line: Line) -> Entry:
    lacking = sorted(form.keys - line.row.keys())
    if lacking:
        raise _Bad(f"this entry has no {' and no '.join(lacking)}; the file is read as {form.name}")
    return form.read(line)


def _unknown(row: Mapping[str, Any]) -> str:
    if "preference" in row or "judgment" in row or "judgement" in row or "g1_winner" in row:
        return "these are verdicts of a judge, not answers: name the file with --verdicts, and the answers as --outputs"
    has = ", ".join(sorted(map(str, row))[:8]) or "nothing"
    return (
        f"no file of answers: its entries have {has}. Known: id and output; instruction and output (alpaca-eval); "
        "question_id and choices (FastChat); doc_id and resps (lm-eval)"
    )


def _plain(line: Line) -> Entry:
    data = line.row.get("data") or {}
    if not isinstance(data, dict):
        raise _Bad("`data` should be a mapping")
    return Entry(line=line.number, key=_key(line.row["id"], "id"), outputs=_texts(line.row["output"]), data=data)


def _alpaca(line: Line) -> Entry:
    instruction = line.row["instruction"]
    if not isinstance(instruction, str):
        raise _Bad(f"`instruction` should be a text, not {_kind(instruction)}")
    return Entry(line=line.number, key=None, outputs=_texts(line.row["output"]), instruction=instruction)


def _fastchat(line: Line) -> Entry:
    choices = line.row["choices"]
    turns = choices[0].get("turns") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    if not isinstance(turns, list):
        raise _Bad("`choices` should be a list whose first entry has `turns`, a list of texts")
    return Entry(line=line.number, key=_key(line.row["question_id"], "question_id"), outputs=_texts(turns, "turns"))


def _lm_eval(line: Line) -> Entry:
    given = line.row["resps"]
    if not isinstance(given, list):
        raise _Bad(f"`resps` should be a list with the texts of each request, not {_kind(given)}")
    texts = [text for group in given for text in (group if isinstance(group, list) else [group])]
    if not all(isinstance(text, str) for text in texts):
        raise _Bad("`resps` holds log-likelihoods, not texts: such a task cannot be scored from this file")
    return Entry(line=line.number, key=_key(line.row["doc_id"], "doc_id"), outputs=tuple(texts))


def _key(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise _Bad(f"`{name}` should be a number or a text, not {_kind(value)}")
    return str(value)


def _texts(value: Any, name: str = "output") -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise _Bad(f"`{name}` should be a text, or a list of texts for several turns, not {_kind(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list with " + (", ".join(sorted({_kind(v) for v in value})) or "nothing in it")
    names = {dict: "a mapping", bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


_FORMS: Sequence[_Form] = (
    _Form("FastChat's answers", frozenset({"question_id", "choices"}), _fastchat, "model_id"),
    _Form("lm-eval's samples", frozenset({"doc_id", "resps"}), _lm_eval),
    _Form("id and output", frozenset({"id", "output"}), _plain, "generator"),
    _Form("alpaca-eval's outputs", frozenset({"instruction", "output"}), _alpaca, "generator"),
)
"""In the order in which they win where an entry fits several."""
