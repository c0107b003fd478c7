"""Win rate against reference outputs, in the form of AlpacaEval 1 and 2 (arXiv 2305.14387, 2404.04475)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import (
    Answer,
    Context,
    EvalItem,
    Grade,
    Judge,
    Metric,
    Reply,
    Request,
    Sampling,
    Suite,
    Verdict,
)
from harness.errors import UserError
from harness.evaluate import _alpaca, _splits
from harness.evaluate._grading import Question, grade_of, judgements, required
from harness.evaluate._talk import converse, missing
from harness.judges._tasks import Order, pair, random_order, source_data, source_id
from harness.judges.replay import Replay
from harness.records import datafile
from harness.records.hashing import sha256
from harness.records.values import FilePath, Share

_LENGTH = "reference_length"


class Pairwise(Suite):
    """Instructions with a reference output each; a judge prefers the reference (1) or the model's output (2).

    The value of an item is preference - 1; identical outputs draw (0.5) and no judge is asked. Win rates, their
    standard error and length control are computed by the alpaca-eval package.
    """

    name: ClassVar[str] = "pairwise"
    grading_options: ClassVar[tuple[str, ...]] = ("orders", "difficulty_path", "regulariser_path")

    path: FilePath = runtime(
        description="Instructions and reference outputs in alpaca-eval's form (model_outputs.json)."
    )
    sha256: str | None = runtime(None, description="Expected SHA-256 of the file's unpacked content.")
    orders: Literal["one", "both"] = identity(
        "both",
        description="Show each pair once, in an order fixed by its instruction (AlpacaEval), or in both and average.",
    )
    max_tokens: int = identity(2048, ge=1, description="Length limit of an answer.", unit="tokens")
    temperature: float = identity(0.0, ge=0, description="Sampling temperature of the answers.")
    difficulty_path: FilePath | None = runtime(
        None, description="CSV of instruction difficulties (index, instruction_difficulty), for length control."
    )
    regulariser_path: FilePath | None = runtime(
        None, description="CSV of the two length-prompted baselines that regularise the length-controlled fit."
    )
    limit: int | None = identity(None, ge=1, description="Only the first so many instructions: a subset.")
    dev: Share | None = identity(None, description="Share of the instructions set apart as dev; test is a subset then.")

    @model_validator(mode="after")
    def _regulariser_needs_difficulties(self) -> Pairwise:
        if self.regulariser_path is not None and self.difficulty_path is None:
            raise ValueError("regulariser_path needs difficulty_path too: length control starts from the difficulties")
        return self

    def metrics(self) -> tuple[Metric, ...]:
        """The win share (headline) and the length of the output."""
        return (Metric(name="win"), Metric(name="length", unit="characters"))

    def splits(self) -> tuple[str, ...]:
        """Test only, unless `dev` sets a share apart."""
        return _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """The hash of the instructions and reference outputs, and which of them are asked."""
        return sha256([datafile.checksum(self.path, self.sha256, "path"), split, self.limit, self.dev])

    def identity_options(self) -> dict[str, Any]:
        """The files of length control count by their content."""
        files = {"difficulty_path": self.difficulty_path, "regulariser_path": self.regulariser_path}
        sums = {name: datafile.checksum(path, None, name) for name, path in files.items() if path is not None}
        return super().identity_options() | sums

    def items(self, split: str) -> list[EvalItem]:
        """The instructions of a split in the order of the file.

        Raises:
            UserError: the file is missing or of another form.
        """
        self.fingerprint(split)
        items = [_item(row, index, self.path) for index, row in enumerate(datafile.rows(self.path, "path"))]
        return _splits.part(items, [item.id for item in items], split, self.dev, self.limit)

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks the instruction."""
        return (
            yield from converse(item, self.name, Sampling(max_tokens=self.max_tokens, temperature=self.temperature))
        )

    def needs_judge(self) -> bool:
        """True: preferences are the judge's."""
        return True

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """One grade per instruction."""
        judge = required(judge, self.name, "a model, or stand_in for a dry run")
        pairs = [Question(item, answer) for item, answer in zip(items, answers, strict=True)]
        # Recorded annotations hold their draws too, perhaps with another reference text: then they are what counts.
        asks = [isinstance(judge, Replay) or not _same(question) for question in pairs]
        shown = [(i, order) for i, q in enumerate(pairs) if asks[i] for order in self._orders(q.item)]
        asked = [Question(pair(pairs[i].item, order), pairs[i].answer) for i, order in shown]
        verdicts = yield from judgements(asked, judge, context)
        given: dict[int, list[Verdict]] = {}
        for (index, _), verdict in zip(shown, verdicts, strict=True):
            given.setdefault(index, []).append(verdict)
        return [_grade(question, _joined(given.get(index, [])), judge.name) for index, question in enumerate(pairs)]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """alpaca-eval's figures over the graded items; length control is None where it is not available."""
        found = [a for grade in grades if (a := _annotation(grade)) is not None]
        if not found:
            return {"win_rate": None, "length_controlled_winrate": None}
        summary: dict[str, float | None] = dict(_alpaca.win_rates([a.preference for a in found]))
        summary["avg_length"] = fmean(a.length for a in found)
        summary["length_controlled_winrate"] = None
        if self.difficulty_path is not None:
            summary |= _alpaca.length_controlled(found, self.difficulty_path, self.regulariser_path)
        return summary

    def notes(self) -> tuple[str, ...]:
        """Says why there is no length control, and where this is not the whole suite."""
        why = (
            "length-controlled win rate: not available, because it needs the difficulty of every instruction, and "
            "`difficulty_path` names no such file"
        )
        return (() if self.difficulty_path is not None else (why,)) + _splits.subset_notes(self.limit, self.dev)

    def _orders(self, item: EvalItem) -> tuple[Order, ...]:
        return (random_order(item.turns[0]),) if self.orders == "one" else ("reference first", "answer first")


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


def _same(question: Question) -> bool:
    return question.answer is not None and question.answer.outputs[:1] == question.item.reference


def _joined(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from those of the orders shown; without any the outputs were identical, which is a draw."""
    if not verdicts:
        return Verdict(score=None, preference=1.5, reason="identical outputs")
    lost = next((v for v in verdicts if not v.parsed), None)
    preferences = [v.preference for v in verdicts if v.preference is not None]
    return Verdict(
        score=None,
        preference=fmean(preferences) if lost is None else None,
        reason=(lost or verdicts[0]).reason,
        raw="\n---\n".join(v.raw for v in verdicts if v.raw),
        parsed=lost is None,
        tokens=sum(v.tokens for v in verdicts),
    )


def _grade(question: Question, verdict: Verdict, judge: str) -> Grade:
    answered = question.answer is not None and missing(question.answer, 0) is None
    length = float(len(question.answer.outputs[0])) if question.answer is not None and answered else None
    win = None if verdict.preference is None else verdict.preference - 1
    grade = grade_of(question, verdict, {"win": win, "length": length}, judge)
    tags = {_LENGTH: str(len(question.item.reference[0])), "index": str(source_id(question.item))}
    return Grade(**{**grade.__dict__, "tags": tags})


def _annotation(grade: Grade) -> _alpaca.Annotation | None:
    win, length = grade.values.get("win"), grade.values.get("length")
    if win is None or length is None:
        return None
    return _alpaca.Annotation(int(grade.tags["index"]), win + 1, int(length), int(grade.tags[_LENGTH]))
