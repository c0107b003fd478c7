"""The pocket world's questions: programmatic truth in MT-Bench's eight categories, one or two turns."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.blocks.base import identity
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
)
from harness.errors import UserError
from harness.evaluate._grading import RATING, Question, means, repeated, required, scored
from harness.evaluate._talk import converse, missing
from harness.judges._tasks import truth, truths
from harness.records.hashing import file_sha256, sha256

if TYPE_CHECKING:
    from types import ModuleType

Count = int | Mapping[str, int]


class Pocket(Suite):
    """Questions of the embedded world: GSM8K's form (math, one turn) and MT-Bench's (eight categories, two turns).

    `accuracy` is checked against the known truth: right and in the asked form. `score` (1 to 10) is the judge's.
    The test and dev splits use disjoint question texts, and neither is in any pocket pool but as a planted leak.
    """

    name: ClassVar[str] = "pocket"
    grading_options: ClassVar[tuple[str, ...]] = ("repeats",)

    count: Count = identity(400, description="Test items: in all (spread over the categories), or per category.")
    dev_count: Count | None = identity(None, description="Dev items, likewise (none: as many as test items).")
    turns: Literal[1, 2] = identity(1, description="User turns per item; the second depends on the first's answer.")
    categories: tuple[str, ...] = identity((), description="Categories to ask from (none named: all eight).")
    max_tokens: int = identity(96, ge=1, description="Length limit of an answer.", unit="tokens")
    temperature: float = identity(0.0, ge=0, description="Sampling temperature of the answers.")
    repeats: int = identity(1, ge=1, description="How often the judge grades each answer; the score is the mean.")

    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy (headline) and the judge's score."""
        return (Metric(name="accuracy", binary=True), Metric(name="score", unit="points", bounds=RATING))

    def splits(self) -> tuple[str, ...]:
        """Both splits; they share no question text."""
        return ("dev", "test")

    def fingerprint(self, split: str) -> str:
        """The hash of the world's source, from which the questions follow: a changed generator is another suite."""
        return sha256([split, _source()])

    def items(self, split: str) -> list[EvalItem]:
        """The questions of a split, round-robin over the categories (or category by category where counts are given).

        Raises:
            UserError: an unknown split or category, or more items than the world has.
        """
        if split not in self.splits():
            raise UserError(f"the pocket suite has no {split!r} split; its splits: dev, test")
        world = _world()
        count = self.count if split == "test" or self.dev_count is None else self.dev_count
        self._check(world, count)
        try:
            if isinstance(count, int):
                found = world.questions(split, count, self.turns, self.categories or world.CATEGORIES)
            else:
                parts = [world.questions(split, n, self.turns, (name,)) for name, n in count.items()]
                found = [question for part in parts for question in part]
        except ValueError as error:
            raise UserError(f"pocket suite: {error}; ask for fewer") from error
        return [_item(question) for question in found]

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks the turns in order."""
        return (
            yield from converse(item, self.name, Sampling(max_tokens=self.max_tokens, temperature=self.temperature))
        )

    def needs_judge(self) -> bool:
        """True: `score` is the judge's."""
        return True

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """One grade per turn."""
        judge = required(judge, self.name, "pocket/oracle")
        pairs = zip(items, answers, strict=True)
        questions = [Question(item, answer, turn) for item, answer in pairs for turn in range(len(item.turns))]
        verdicts = yield from repeated(questions, judge, context, self.repeats)
        check = importlib.import_module("harness.pocket.oracle").grade
        return [
            scored(question, several, "score", judge.name, {"accuracy": _accuracy(question, check)})
            for question, several in zip(questions, verdicts, strict=True)
        ]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Means per turn, where there are two, with their intervals."""
        accuracy, score = self.metrics()
        return means(grades, accuracy, "turn") | means(grades, score, "turn")

    def _check(self, world: ModuleType, count: Count) -> None:
        named = [*self.categories, *(() if isinstance(count, int) else count)]
        unknown = [name for name in named if name not in world.CATEGORIES]
        if unknown:
            raise UserError(f"pocket suite: no category {unknown[0]!r}; the categories: {', '.join(world.CATEGORIES)}")
        if self.categories and not isinstance(count, int):
            raise UserError(
                "pocket suite: `categories` and counts per category exclude each other: drop one of the two"
            )
        if min([count] if isinstance(count, int) else [*count.values(), 0 if not count else 1]) < 1:
            raise UserError("pocket suite: a count of items must be at least 1")


def _world() -> ModuleType:
    # By name: nothing but the pocket blocks may lead to the pocket world, and these only when they run.
    return importlib.import_module("harness.pocket.world")


@cache
def _source() -> list[str]:
    """Hashes of the files that make questions and check answers; hashing them is faster than making the questions."""
    spec = importlib.util.find_spec("harness.pocket")
    root = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else Path()
    files = [root / f"{name}.py" for name in ("world", "forms", "words", "answers", "oracle")]
    return [file_sha256(file) for file in [*files, *sorted((root / "tasks").glob("*.py"))]]


def _item(question: Any) -> EvalItem:
    return EvalItem(
        id=question.id,
        turns=tuple(turn.user for turn in question.turns),
        category=question.category,
        cluster=question.id,
        reference=tuple(turn.reference for turn in question.turns),
        truth=truths([turn.truth for turn in question.turns]),
    )


def _accuracy(question: Question, check: Any) -> float | None:
    """1 for an answer that is right and in the asked form, else 0; None for none."""
    if question.answer is None or missing(question.answer, question.turn) is not None:
        return None
    given = check(truth(question.item, question.turn), question.answer.outputs[question.turn])
    return 1.0 if given.correct and given.score == 10 else 0.0
