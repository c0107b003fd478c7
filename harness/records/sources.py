"""Datasets as streams of examples: read, checked, split, and freed of prompts that belong to a test.

Nothing is left out silently: a row that cannot be used is either an error that names the rows, or comes out as
`Dropped` with its reason.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from harness.config.model import Dataset
from harness.errors import UserError
from harness.records import datafile, downloads, formats, rowfiles
from harness.records.example import Dropped, Example, Origin, prompt_text
from harness.records.hashing import canonical, file_sha256, seed_of, sha256

READING = 1
"""Raised when the same file and options would give other examples than before."""
_SAMPLE = 50
_SHOWN = 5
NO_ANSWER = "no answer"


def load(dataset: Dataset) -> Iterator[Example | Dropped]:
    """The rows of a dataset in their order; at most `rows` examples, and what was dropped on the way.

    Raises:
        UserError: a missing or changed file, rows that cannot be read or have no answer (the first few are named, all
            are counted), or a dataset of which nothing is left.
    """
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


def fingerprint(dataset: Dataset) -> str:
    """The identity of what `load` gives: the content of the file (or the generated rows) and every option that counts.

    Raises:
        UserError: the file is missing, or not the one that its checksum names.
    """
    options = dataset.model_dump(mode="json", include={"name", "format", "rows", "require_answer", "columns", "part"})
    options["withhold"] = None if dataset.withhold is None else dataset.withhold.model_dump(mode="json")
    exclude = [fingerprint(o) if isinstance(o, Dataset) else o.block.fingerprint("test") for o in dataset.exclude]
    return sha256([READING, content(dataset), options, exclude])


def content(dataset: Dataset) -> str:
    """The SHA-256 of a file as named, or of the rows that the pocket generator gives.

    Raises:
        UserError: the file is missing, or not the one that its checksum names.
    """
    if dataset.kind == "pocket":
        return _generated(canonical(dict(dataset.options)))
    if dataset.url is not None and dataset.sha256 is not None:
        return dataset.sha256.lower()
    path = local(dataset)
    stat = path.stat()
    found = _file_hash(path, stat.st_mtime_ns, stat.st_size)
    if dataset.sha256 is not None and dataset.sha256.lower() != found:
        raise UserError(_changed(path, found, dataset.sha256, "sha256"))
    if dataset.sha256_unpacked is not None:
        unpacked = _unpacked_hash(path, stat.st_mtime_ns, stat.st_size)
        if dataset.sha256_unpacked.lower() != unpacked:
            raise UserError(_changed(path, unpacked, dataset.sha256_unpacked, "sha256_unpacked"))
    return found


def local(dataset: Dataset) -> Path:
    """The file of a dataset, downloaded where it is behind a URL.

    Raises:
        UserError: there is no such file.
    """
    if dataset.url is not None and dataset.sha256 is not None:
        return downloads.fetch(dataset.url, dataset.sha256)
    path = Path(dataset.path or "")
    if not path.is_file():
        raise UserError(f"the dataset {dataset.name} names {path}, which is not there")
    return path


def place(dataset: Dataset) -> str:
    """Where the rows come from, as messages say it."""
    return "generated" if dataset.kind == "pocket" else dataset.written or dataset.path or dataset.url or "?"


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
    for row in _pocket(dataset) if dataset.kind == "pocket" else _answered(dataset):
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


def _apart(dataset: Dataset) -> frozenset[str] | None:
    if dataset.withhold is None:
        return None
    rows = _pocket(dataset) if dataset.kind == "pocket" else _answered(dataset)
    texts = (prompt_text(row) for row in rows if isinstance(row, Example))
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


def _pocket(dataset: Dataset) -> Iterator[Example]:
    """Rows of the pocket generator, which is found by name: nothing else of loopbench imports that package."""
    for row in _generate(dict(dataset.options)):
        example = formats.convert(row, "messages", str(row["id"]), "pocket")
        yield Example(
            id=example.id,
            messages=example.messages,
            group=str(row.get("group") or row["id"]),
            tags=example.tags,
            origin=Origin(block="source", model="pocket"),
        )


def _generate(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = importlib.import_module("harness.pocket.pool").rows
    given = dict(options)
    try:
        yield from rows(given.pop("rows"), given.pop("seed", 0), **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"the pocket pool with the options {options} cannot be generated: {error}") from error


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


# --- hashes -----------------------------------------------------------------------------------------------------------
def _changed(path: Path, found: str, expected: str, key: str) -> str:
    return (
        f"{path} is not the file that was meant: its SHA-256 is {found}, but `{key}` says {expected.lower()}. "
        "Get the right file, or change the checksum if you mean this one"
    )


@lru_cache(maxsize=64)
def _file_hash(path: Path, changed: int, size: int) -> str:  # time and size: a changed file is read again
    return file_sha256(path)


@lru_cache(maxsize=64)
def _unpacked_hash(path: Path, changed: int, size: int) -> str:
    return hashlib.sha256(datafile.content(path)).hexdigest()


@lru_cache(maxsize=16)
def _generated(options: str) -> str:
    """The hash of the very rows: a changed generator is another pool, whatever its options."""
    import json

    return sha256(list(_generate(json.loads(options))))
