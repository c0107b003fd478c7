"""Win rate against reference outputs, in the form of AlpacaEval 1 and 2 (arXiv 2305.14387, 2404.04475)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Reply, Request
from harness.errors import UserError
from harness.evaluate import _alpaca, _length_control, _pairs, _splits
from harness.evaluate._figures import absent, share
from harness.evaluate._grading import interval, required
from harness.evaluate._pair_suite import PairSuite
from harness.judges._tasks import Order, random_order, source_data
from harness.records import datafile
from harness.records.hashing import sha256
from harness.records.values import FilePath, Share

_FILES = ("difficulty_path", "regulariser_path", "coefficients_path")


class Pairwise(PairSuite):
    """Instructions with a reference output each; a judge prefers the reference (1) or the model's output (2).

    The value of an item is preference - 1; identical outputs draw (0.5) and no judge is asked. Win rates, their
    standard error and length control are computed by the alpaca-eval package. How far the verdicts hang on order and
    length stands beside them.
    """

    name: ClassVar[str] = "pairwise"
    scorer: ClassVar[int] = 2
    grading_options: ClassVar[tuple[str, ...]] = ("orders", "repeats", "coefficients_model", *_FILES)

    path: FilePath = runtime(
        description="Instructions and reference outputs in alpaca-eval's form (model_outputs.json)."
    )
    sha256: str | None = runtime(None, description="Expected SHA-256 of the file's unpacked content.")
    orders: Literal["one", "both"] = identity(
        "both",
        description="Show each pair once, in an order fixed by its instruction (AlpacaEval), or in both and average.",
    )
    difficulty_path: FilePath | None = runtime(
        None, description="CSV of instruction difficulties (index, instruction_difficulty), for length control."
    )
    regulariser_path: FilePath | None = runtime(
        None, description="CSV of the two length-prompted baselines that regularise the length-controlled fit."
    )
    coefficients_path: FilePath | None = runtime(
        None, description="CSV of published coefficients of the length-controlled model, one row per model."
    )
    coefficients_model: str | None = identity(
        None,
        description="The row of coefficients_path that is used instead of a fit: only for that model's own outputs.",
    )
    limit: int | None = identity(None, ge=1, description="Only the first so many instructions: a subset.")
    dev: Share | None = identity(None, description="Share of the instructions set apart as dev; test is a subset then.")

    @model_validator(mode="after")
    def _regulariser_needs_difficulties(self) -> Pairwise:
        if self.regulariser_path is not None and self.difficulty_path is None:
            raise ValueError("regulariser_path needs difficulty_path too: length control starts from the difficulties")
        if self.coefficients_model is not None and None in (self.coefficients_path, self.difficulty_path):
            raise ValueError("coefficients_model needs coefficients_path and difficulty_path too")
        return self

    def splits(self) -> tuple[str, ...]:
        """Test only, unless `dev` sets a share apart."""
        return _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """The hash of the instructions and reference outputs, and which of them are asked."""
        return sha256([datafile.checksum(self.path, self.sha256, "path"), split, self.limit, self.dev])

    def identity_options(self) -> dict[str, Any]:
        """The files of length control count by their content."""
        files = {name: path for name in _FILES if (path := getattr(self, name)) is not None}
        return super().identity_options() | {name: datafile.checksum(path, None, name) for name, path in files.items()}

    def items(self, split: str) -> list[EvalItem]:
        """The instructions of a split in the order of the file.

        Raises:
            UserError: the file is missing or of another form.
        """
        self.fingerprint(split)
        items = [_item(row, index, self.path) for index, row in enumerate(datafile.rows(self.path, "path"))]
        return _splits.part(items, [item.id for item in items], split, self.dev, self.limit)

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """One grade per instruction, with what was said in each order in its tags."""
        judge = required(judge, self.name, "a model, or stand_in for a dry run")
        compared = yield from _pairs.compare(items, answers, judge, self._orders, context, self.repeats)
        return [_pairs.grade(one, _pairs.mean_win, judge.name, {}) for one in compared]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """alpaca-eval's figures over the graded items, and the judge's sensitivity to order and length.

        Length control is None where it is not available.
        """
        found = [a for grade in grades if (a := _annotation(grade)) is not None]
        if not found:
            return absent("win_rate", len(grades)) | absent(_length_control.NAME, len(grades))
        package = dict(_alpaca.win_rates([a.preference for a in found]))
        wins = [grade.values.get("win") for grade in grades]
        figures = share("win_rate", wins, scale=100)
        figures |= share("discrete_win_rate", [_discrete(win) for win in wins], scale=100) | package
        lengths = [grade.values.get("length") for grade in grades]
        figures |= interval("avg_length", lengths, [grade.cluster for grade in grades], None)
        controlled = self._length_control(found, len(grades) - len(found))
        return figures | controlled | _pairs.sensitivity(grades) | _pairs.unflagged(grades)

    def notes(self) -> tuple[str, ...]:
        """Says why there is no length control, and where this is not the whole suite."""
        why = (
            "length-controlled win rate: not available, because it needs the difficulty of every instruction, and "
            "`difficulty_path` names no such file"
        )
        return (() if self.difficulty_path is not None else (why,)) + _splits.subset_notes(self.limit, self.dev)

    def opponents(self) -> frozenset[str]:
        """Who wrote the reference outputs, as their file says (`generator`)."""
        return frozenset(str(row["generator"]) for row in datafile.rows(self.path, "path") if row.get("generator"))

    def for_model(self, name: str) -> Pairwise:
        """With the model's published coefficients of length control, where the file has them and none are named."""
        path = self.coefficients_path
        if path is None or self.coefficients_model is not None or not _length_control.has_published(name, path):
            return self
        return self.model_copy(update={"coefficients_model": name})

    def _length_control(self, found: Sequence[_alpaca.Annotation], missing: int) -> dict[str, float | None]:
        if self.difficulty_path is None:
            return absent(_length_control.NAME, len(found) + missing)
        fitted = _length_control.fitted(found, self.difficulty_path, self.regulariser_path, missing)
        if self.coefficients_model is None or self.coefficients_path is None:
            return fitted
        value = _length_control.published(self.coefficients_model, self.coefficients_path, self.difficulty_path)
        return fitted | _length_control.beside(fitted, value)

    def _orders(self, item: EvalItem) -> tuple[Order, ...]:
        return (random_order(item.turns[0]),) if self.orders == "one" else _pairs.BOTH


def _item(row: Mapping[str, Any], index: int, path: str) -> EvalItem:
    instruction, output = row.get("instruction"), row.get("output")
    if not isinstance(instruction, str) or not isinstance(output, str):
        raise UserError(f"{path}, entry {index}: it needs the texts `instruction` and `output` (alpaca-eval's form)")
    return EvalItem(
        id=f"pairwise/{index}",
        turns=(instruction,),
        category=str(row.get("dataset", "")),
        cluster=f"pairwise/{index}",
        reference=(output,),
        data=source_data(index),
    )


def _discrete(win: float | None) -> float | None:
    """A whole win, a whole loss, or a draw."""
    return None if win is None else 0.5 if win == 0.5 else float(win > 0.5)


def _annotation(grade: Grade) -> _alpaca.Annotation | None:
    win, length = grade.values.get("win"), grade.values.get("length")
    if win is None or length is None:
        return None
    reference = int(grade.tags[_pairs.REFERENCE_LENGTH])
    return _alpaca.Annotation(int(grade.tags[_pairs.INDEX]), win + 1, int(length), reference)
