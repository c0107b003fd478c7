"""MT-Bench: open questions of two turns in eight categories, each answer graded from 1 to 10 (arXiv 2306.05685)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import model_validator

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Metric, Reply, Request, Sampling, Suite
from harness.errors import UserError
from harness.evaluate import _splits
from harness.evaluate._grading import RATING, Question, grade_of, judgements, means, required
from harness.evaluate._talk import converse
from harness.judges._tasks import source_data
from harness.records import datafile
from harness.records.hashing import sha256
from harness.records.values import FilePath, Share

TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""FastChat's `temperature_config`; a category that is not named there is asked at 0.7."""
OTHER_TEMPERATURE = 0.7


class MTBench(Suite):
    """Questions from a file in FastChat's form; single-answer grading, one grade per turn.

    The score is the mean over both turns of all questions, as FastChat prints it. A verdict without a readable grade is
    missing. Reference answers go to the judge for the questions that `reference_path` has (in FastChat's file: math,
    reasoning and coding); the `reference` that some questions carry themselves is not used, as in FastChat.
    """

    name: ClassVar[str] = "mt_bench"

    path: FilePath = runtime(description="FastChat's question.jsonl: question_id, category, turns; gzip too.")
    sha256: str | None = runtime(None, description="Expected SHA-256 of the file's unpacked content.")
    reference_path: FilePath | None = runtime(None, description="Reference answers in FastChat's form, by question_id.")
    reference_sha256: str | None = runtime(None, description="Expected SHA-256 of that file's unpacked content.")
    max_tokens: int = identity(1024, ge=1, description="Length limit of an answer.", unit="tokens", source="FastChat")
    temperatures: dict[str, float] = identity({}, description="Category to temperature, where not FastChat's.")
    limit: int | None = identity(None, ge=1, description="Only the first so many questions: a subset, not the suite.")
    dev: Share | None = identity(None, description="Share of the questions set apart as dev; test is a subset then.")

    @model_validator(mode="after")
    def _temperatures_are_not_negative(self) -> MTBench:
        bad = [name for name, value in self.temperatures.items() if value < 0]
        if bad:
            raise ValueError(f"temperatures.{bad[0]} is below 0; 0 is greedy")
        return self

    def metrics(self) -> tuple[Metric, ...]:
        """The grade, 1 to 10."""
        return (Metric(name="score", unit="points", bounds=RATING),)

    def splits(self) -> tuple[str, ...]:
        """Test only, unless `dev` sets a share apart."""
        return _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """Hashes of the two files, and which questions are asked."""
        questions = datafile.checksum(self.path, self.sha256, "path")
        references = None
        if self.reference_path is not None:
            references = datafile.checksum(self.reference_path, self.reference_sha256, "reference_path")
        return sha256([questions, references, split, self.limit, self.dev])

    def items(self, split: str) -> list[EvalItem]:
        """The questions of a split in the order of the file.

        Raises:
            UserError: the file is missing, of another form, or names a question twice.
        """
        self.fingerprint(split)
        rows = datafile.rows(self.path, "path")
        references = self._references()
        items = [_item(row, references, index, self.path) for index, row in enumerate(rows, start=1)]
        ids = [item.id for item in items]
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{self.path} has two questions with the id of {twice}: ids must be unique")
        return _splits.part(items, ids, split, self.dev, self.limit)

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks both turns, at the temperature of the question's category."""
        usual = TEMPERATURES.get(item.category, OTHER_TEMPERATURE)
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperatures.get(item.category, usual))
        return (yield from converse(item, self.name, sampling))

    def needs_judge(self) -> bool:
        """True: every grade is the judge's."""
        return True

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """One grade per question and turn; `cluster` joins the turns of a question."""
        judge = required(judge, self.name, "a model, or stand_in for a dry run")
        pairs = zip(items, answers, strict=True)
        questions = [Question(item, answer, turn) for item, answer in pairs for turn in range(len(item.turns))]
        verdicts = yield from judgements(questions, judge, context)
        return [grade_of(q, v, {"score": v.score}, judge.name) for q, v in zip(questions, verdicts, strict=True)]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Mean score per turn and per category."""
        return means(grades, "score", "turn") | means(grades, "score", "category")

    def notes(self) -> tuple[str, ...]:
        """Says so where this is not the whole suite."""
        return _splits.subset_notes(self.limit, self.dev)

    def _references(self) -> dict[Any, tuple[str, ...]]:
        if self.reference_path is None:
            return {}
        rows = datafile.rows(self.reference_path, "reference_path")
        try:
            return {row["question_id"]: tuple(row["choices"][0]["turns"]) for row in rows}
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{self.reference_path} is not in FastChat's form for answers: {error!r} is missing"
            ) from error


def _item(row: Mapping[str, Any], references: Mapping[Any, tuple[str, ...]], index: int, path: str) -> EvalItem:
    name, turns = row.get("question_id"), row.get("turns")
    if name is None or not isinstance(turns, list) or not turns or not all(isinstance(t, str) for t in turns):
        raise UserError(
            f"{path}, question {index}: it needs `question_id` and `turns`, a list of texts (FastChat's form)"
        )
    return EvalItem(
        id=f"mt_bench/{name}",
        turns=tuple(turns),
        category=str(row.get("category", "")),
        cluster=f"mt_bench/{name}",
        reference=references.get(name, ()),
        data=source_data(name),
    )
