"""MT-Bench's files in FastChat's form: questions and answers by question id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from harness.blocks.kinds import EvalItem
from harness.errors import UserError
from harness.judges._tasks import source_data
from harness.records import named
from harness.records.values import DataFile

Texts = tuple[str, ...]


def questions(file: DataFile, references: Mapping[Any, Texts], guided: tuple[str, ...]) -> list[EvalItem]:
    """The questions in the order of the file; those of the `guided` categories with their reference answers.

    Raises:
        UserError: the file is missing or of another form, names a question twice, or a reference is missing.
    """
    where = named.place(file)
    rows = named.rows(file, "questions")
    items = [_item(row, references, guided, f"{where}, question {i}") for i, row in enumerate(rows, start=1)]
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UserError(f"{where} has two questions with the id of {item.id}: ids must be unique")
        seen.add(item.id)
    return items


def answers(file: DataFile, option: str) -> dict[Any, Texts]:
    """Question id to the answers of all turns (the first choice, as FastChat takes it).

    Raises:
        UserError: the file is missing, or not in FastChat's form for answers.
    """
    return dict(_answers(file, named.digest(file, option), option))


@lru_cache(maxsize=8)
def _answers(file: DataFile, digest: str, option: str) -> Mapping[Any, Texts]:  # digest: a changed file is read again
    found: dict[Any, Texts] = {}
    for number, row in enumerate(named.rows(file, option), start=1):
        where = f"{named.place(file)}, row {number} (option `{option}`)"
        try:
            turns = row["choices"][0]["turns"]
            name = row["question_id"]
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{where}, is not in FastChat's form for answers (question_id, choices[0].turns): {error!r} is missing"
            ) from error
        if not isinstance(name, str | int) or not _texts(turns):
            raise UserError(f"{where}: `turns` should be a list of texts, and `question_id` a number or a text")
        if name in found:
            raise UserError(f"{where}: a second answer to question {name}; the file should hold one model's answers")
        found[name] = tuple(turns)
    return found


def of(found: Mapping[Any, Texts], item: EvalItem, name: Any, what: str) -> Texts:
    """The texts for an item, one per turn.

    Raises:
        UserError: there are none, or too few.
    """
    texts = found.get(name, ())
    if len(texts) < len(item.turns):
        raise UserError(
            f"{what} for {item.id}: {len(texts)} of {len(item.turns)} turns are there. Give a file that covers every "
            "question, or ask fewer (`limit`)"
        )
    return texts


def _item(row: Mapping[str, Any], references: Mapping[Any, Texts], guided: tuple[str, ...], where: str) -> EvalItem:
    name, turns = row.get("question_id"), row.get("turns")
    if not isinstance(name, str | int) or not isinstance(turns, list) or not turns or not _texts(turns):
        raise UserError(f"{where}: it needs `question_id` and `turns`, a list of texts (FastChat's form)")
    category = str(row.get("category", ""))
    item = EvalItem(
        id=f"mt_bench/{name}",
        turns=tuple(turns),
        category=category,
        cluster=f"mt_bench/{name}",
        data=source_data(name),
    )
    if not references or category not in guided:
        return item
    texts = of(references, item, name, f"`references` has no complete reference answer of the category {category}")
    return replace(item, reference=texts)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
