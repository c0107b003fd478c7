"""Datasets as streams of examples: read, checked, split, and freed of prompts that belong to a test.

Nothing is left out silently: a row that cannot be used is either an error that names the rows, or comes out as
`Dropped` with its reason.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from harness.config.model import Dataset
from harness.errors import Problem, UserError
from harness.records import formats, generated, rowfiles, taxonomy
from harness.records.contents import content, fingerprint, local, place
from harness.records.example import Dropped, Example, prompt_text
from harness.records.hashing import seed_of

__all__ = ["NO_ANSWER", "check", "content", "fingerprint", "format_of", "load", "local", "place", "withheld"]

_SAMPLE = 50
_SHOWN = 5
NO_ANSWER = "no answer"


def load(dataset: Dataset) -> Iterator[Example | Dropped]:
    """The rows of a dataset in their order; at most `rows` examples, and what was dropped on the way.

    Raises:
        UserError: a missing or changed file, rows that cannot be read or have no answer (the first few are named, all
            are counted), or a dataset of which nothing is left.
    """
    if dataset.format == "rows":
        raise UserError(
            f"the dataset {dataset.name} ({place(dataset)}) holds no examples, but rows that a suite or a judge reads "
            "as they are: name it there, as in evalsuites/mt-bench.yaml"
        )
    examples = 0
    dropped: Counter[str] = Counter()
    for row in _all(dataset):
        if isinstance(row, Example) and dataset.rows is not None and examples == dataset.rows:
            break
        if isinstance(row, Dropped):
            dropped[row.reason] += 1
        else:
            examples += 1
        yield row
    if not examples:
        why = f"; dropped: {', '.join(f'{n} {reason}' for reason, n in dropped.items())}" if dropped else ""
        raise UserError(f"the dataset {dataset.name} ({place(dataset)}) has no rows{why}: nothing can be done with it")


def check(dataset: Dataset) -> list[Problem]:
    """Everything that would stop `load`, without keeping the rows: reads the whole source once."""
    try:
        for _ in load(dataset):
            pass
    except UserError as error:
        return [Problem(str(error), dataset.written or dataset.path)]
    return []


def withheld(texts: Iterable[str], rows: int, seed: int) -> frozenset[str]:
    """The prompts that are set apart: the `rows` distinct texts whose hash with the seed is smallest.

    Raises:
        UserError: there are not more distinct texts than are to be set apart.
    """
    distinct = set(texts)
    if len(distinct) <= rows:
        raise UserError(f"withhold: {rows} rows cannot be set apart of {len(distinct)} distinct prompts")
    return frozenset(heapq.nsmallest(rows, distinct, key=lambda text: (seed_of("withhold", seed, text), text)))


# --- reading ----------------------------------------------------------------------------------------------------------
def _all(dataset: Dataset) -> Iterator[Example | Dropped]:
    content(dataset)
    forbidden = dict(_forbidden(dataset))
    apart = _apart(dataset)
    for row in _read(dataset):
        if isinstance(row, Dropped):
            yield row
            continue
        if apart is not None and (prompt_text(row) in apart) != (dataset.part == "withheld"):
            continue
        owner = next(
            (forbidden[t] for m in row.messages if m["role"] == "user" and (t := _bare(m["content"])) in forbidden),
            None,
        )
        yield row if owner is None else Dropped(row, f"prompt of {owner}")


def _read(dataset: Dataset) -> Iterator[Example | Dropped]:
    if dataset.kind == "pocket":
        return generated.examples(dataset.options)
    return taxonomy.examples(dataset, local(dataset)) if dataset.kind == "taxonomy" else _answered(dataset)


def _apart(dataset: Dataset) -> frozenset[str] | None:
    if dataset.withhold is None:
        return None
    texts = (prompt_text(row) for row in _read(dataset) if isinstance(row, Example))
    return withheld(texts, dataset.withhold.rows, dataset.withhold.seed)


def _forbidden(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """First user turns of excluded datasets and of the test items of excluded suites, with their owner's name."""
    for other in dataset.exclude:
        if isinstance(other, Dataset):
            rows = (row for row in load(other.model_copy(update={"require_answer": False})) if isinstance(row, Example))
            texts = (next((m["content"] for m in row.messages if m["role"] == "user"), "") for row in rows)
        else:
            texts = (turn for item in other.block.items("test") for turn in item.turns[:1])
        yield from ((_bare(text), other.name) for text in texts)


def _bare(text: str) -> str:
    return " ".join(text.split())


@dataclass
class _Bad:
    """Rows that stop the reading: the first few by place, all by reason."""

    reasons: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)

    def add(self, where: str, reason: str) -> None:
        self.reasons[reason] += 1
        if len(self.places) < _SHOWN:
            self.places.append(where if reason == NO_ANSWER else f"{where} ({reason})")


def _answered(dataset: Dataset) -> Iterator[Example | Dropped]:
    """Converted rows; rows that cannot be used are collected and reported together at the end."""
    path, bad = local(dataset), _Bad()
    form = format_of(dataset)
    for index, (where, raw) in enumerate(rowfiles.read(path)):
        try:
            row = formats.convert(_renamed(raw, dataset), form, f"{dataset.name}/{index}", dataset.name)
        except formats.BadRow as error:
            bad.add(where, str(error))
            continue
        if not (row.answer or "").strip() and dataset.require_answer is not False:
            if dataset.require_answer == "drop":
                yield Dropped(row, NO_ANSWER)
            else:
                bad.add(where, NO_ANSWER)
            continue
        yield row
    if bad.reasons:
        raise UserError(_report(dataset, path, bad))


def format_of(dataset: Dataset) -> str:
    """The format of a file's rows: as configured, else detected from the first rows.

    Raises:
        UserError: the file is empty, or its columns are those of no format that is known.
    """
    if dataset.format != "auto":
        return dataset.format
    path = local(dataset)
    sample = [_renamed(row, dataset) for _, row in islice(rowfiles.read(path), _SAMPLE)]
    if not sample:
        raise UserError(f"the dataset {dataset.name} ({place(dataset)}) has no rows: the file is empty")
    found = formats.detect(sample)
    if found is None:
        columns = ", ".join(sorted({name for row in sample for name in row}))
        raise UserError(
            f"the form of {path} is not known: its columns are {columns}. Known forms: messages, alpaca (instruction, "
            "input, output), sharegpt, prompt_completion, preference (chosen, rejected). Name the columns with "
            "`columns: {prompt: <your column>, completion: <your column>}`, or set `format`"
        )
    return found


def _renamed(row: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    if not dataset.columns:
        return row
    missing = [old for old in dataset.columns.values() if old not in row]
    if missing and not set(missing) <= {dataset.columns.get(name) for name in ("input", "system")}:
        raise UserError(f"columns: {place(dataset)} has no column {missing[0]!r}; it has {', '.join(sorted(row))}")
    taken = set(dataset.columns.values())
    renamed = {new: row[old] for new, old in dataset.columns.items() if old in row}
    return {name: value for name, value in row.items() if name not in taken} | renamed


def _report(dataset: Dataset, path: Path, bad: _Bad) -> str:
    total = sum(bad.reasons.values())
    more = f" and {total - len(bad.places)} more" if total > len(bad.places) else ""
    said = f"{path}: {total} row{'s' if total > 1 else ''} of the dataset {dataset.name} cannot be used: "
    only = set(bad.reasons) == {NO_ANSWER}
    what = "no answer in " if only else ""
    hint = "Mend the file"
    if NO_ANSWER in bad.reasons:
        hint += ", write `require_answer: drop` to leave rows without an answer out (they are counted), or "
        hint += "`require_answer: false` where prompts are all that is needed"
    return f"{said}{what}{', '.join(bad.places)}{more}. {hint}"
