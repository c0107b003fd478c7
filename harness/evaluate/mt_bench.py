"""MT-Bench: open questions of two turns in eight categories, graded from 1 to 10 or compared with a baseline's answers.

arXiv 2306.05685; lm-sys/FastChat, fastchat/llm_judge.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Metric, Reply, Request, Sampling, Suite
from harness.evaluate import _fastchat, _pairs, _splits
from harness.evaluate._figures import share
from harness.evaluate._grading import RATING, Question, means, repeated, required, scored
from harness.evaluate._pairs import Outcome
from harness.evaluate._talk import converse
from harness.judges._fastchat import with_prompts
from harness.judges._tasks import pair, source_id
from harness.records import named
from harness.records.hashing import sha256
from harness.records.values import DataFile, Share

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
GUIDED = ("math", "reasoning", "coding")
"""FastChat's `NEED_REF_CATS`: the judge is shown a reference answer."""
Asking = Generator[Sequence[Request], Sequence[Reply], list[Grade]]


class MTBench(Suite):
    """Questions from a file in FastChat's form, asked turn by turn; one grade per turn.

    `mode: single`: the judge grades each answer; the score is the mean over both turns of all questions, as FastChat
    prints it. `mode: pairwise`: the judge compares each answer with the baseline's in both orders; a win needs both,
    orders that disagree are a tie, and `win` counts a tie as one half (FastChat's adjusted win rate). A verdict that
    cannot be read is missing, never a number. Where `prompts` is set, the judge is asked in FastChat's own words.
    """

    name: ClassVar[str] = "mt_bench"
    grading_options: ClassVar[tuple[str, ...]] = ("mode", "repeats", "prompts", "baseline", "reference_categories")

    questions: DataFile = runtime(description="FastChat's question.jsonl: question_id, category, turns; gzip too.")
    references: DataFile | None = runtime(None, description="Reference answers in FastChat's form, by question_id.")
    reference_categories: tuple[str, ...] = identity(
        GUIDED, description="Categories whose reference answers the judge is shown.", source="FastChat, NEED_REF_CATS"
    )
    prompts: DataFile | None = runtime(
        None, description="FastChat's judge_prompts.jsonl; without it the judge's prompt pack says how it is asked."
    )
    mode: Literal["single", "pairwise"] = identity(
        "single", description="Grade each answer, or compare it with the baseline's."
    )
    baseline: DataFile | None = runtime(
        None, description="The baseline's answers in FastChat's form, for `mode: pairwise`."
    )
    repeats: int = identity(1, ge=1, description="How often each answer is judged; the value is the mean.")
    max_tokens: int = identity(1024, ge=1, description="Length limit of an answer.", unit="tokens", source="FastChat")
    temperatures: dict[str, float] = identity({}, description="Category to temperature, where not FastChat's.")
    limit: int | None = identity(None, ge=1, description="Only the first so many questions: a subset, not the suite.")
    dev: Share | None = identity(None, description="Share of the questions set apart as dev; test is a subset then.")

    @model_validator(mode="after")
    def _options_fit(self) -> MTBench:
        bad = [name for name, value in self.temperatures.items() if value < 0]
        if bad:
            raise ValueError(f"temperatures.{bad[0]} is below 0; 0 is greedy")
        if (self.mode == "pairwise") != (self.baseline is not None):
            raise ValueError("`mode: pairwise` and `baseline` belong together: the baseline is what is compared with")
        return self

    def metrics(self) -> tuple[Metric, ...]:
        """The grade, 1 to 10; in pairwise mode the win share and the length of the answer."""
        if self.mode == "single":
            return (Metric(name="score", unit="points", bounds=RATING),)
        return (Metric(name="win"), Metric(name="length", unit="characters"))

    def splits(self) -> tuple[str, ...]:
        """Test only, unless `dev` sets a share apart."""
        return _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """Hashes of questions and references, and which questions are asked."""
        found = named.digest(self.questions, "questions")
        references = None if self.references is None else named.digest(self.references, "references")
        return sha256([found, references, split, self.limit, self.dev])

    def identity_options(self) -> dict[str, Any]:
        """The judge's prompts and the baseline's answers count by their content, wherever they lie."""
        files = {"prompts": self.prompts, "baseline": self.baseline}
        sums = {name: named.digest(file, name) for name, file in files.items() if file is not None}
        return super().identity_options() | sums

    def items(self, split: str) -> list[EvalItem]:
        """The questions of a split in the order of the file.

        Raises:
            UserError: a file is missing or of another form, names a question twice, or lacks a reference answer.
        """
        references = {} if self.references is None else _fastchat.answers(self.references, "references")
        items = _fastchat.questions(self.questions, references, self.reference_categories)
        return _splits.part(items, [item.id for item in items], split, self.dev, self.limit)

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks both turns, at the temperature of the question's category."""
        usual = TEMPERATURES.get(item.category, OTHER_TEMPERATURE)
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperatures.get(item.category, usual))
        return (yield from converse(item, self.name, sampling))

    def gold(self, item: EvalItem) -> Answer | None:
        """What a self-check answers: the reference, or in pairwise mode the baseline's own answers, which must draw."""
        texts = item.reference if self.baseline is None else self._baseline(item)
        return Answer(item=item.id, outputs=texts) if len(texts) == len(item.turns) else None

    def gold_value(self) -> float | None:
        """The baseline's own answers draw with themselves."""
        return super().gold_value() if self.mode == "single" else 0.5

    def needs_judge(self) -> bool:
        """True: every grade is the judge's."""
        return True

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Asking:
        """One grade per question and turn; `cluster` joins the turns of a question."""
        judge = required(judge, self.name, "a model, or stand_in for a dry run")
        context = with_prompts(context, self.prompts, "prompts")
        if self.mode == "pairwise":
            items = [pair(item, "answer first", self._baseline(item)) for item in items]
        pairs = zip(items, answers, strict=True)
        questions = [Question(item, answer, turn) for item, answer in pairs for turn in range(len(item.turns))]
        if self.mode == "pairwise":
            return (yield from self._compare(questions, judge, context))
        verdicts = yield from repeated(questions, judge, context, self.repeats)
        return [scored(q, several, "score", judge.name) for q, several in zip(questions, verdicts, strict=True)]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Means per turn and category with intervals; in pairwise mode FastChat's rates and the judge's biases too."""
        metric = self.metrics()[0]
        parts = means(grades, metric, "turn") | means(grades, metric, "category")
        return parts if self.mode == "single" else _rates(grades) | parts | _pairs.sensitivity(grades)

    def notes(self) -> tuple[str, ...]:
        """Says so where this is not the whole suite, or not judged as FastChat judges."""
        own = [
            (
                self.prompts is None,
                "judged in the prompt pack's words, not in MT-Bench's: compare with each other only",
            ),
            (self.references is None, "without reference answers for math, reasoning and coding"),
        ]
        return tuple(text for true, text in own if true) + _splits.subset_notes(self.limit, self.dev)

    def _compare(self, questions: Sequence[Question], judge: Judge, context: Context) -> Asking:
        """Both orders of every pair, as FastChat's two games; identical answers are asked about too, as there."""
        shown = [replace(q, item=pair(q.item, order)) for q in questions for order in _pairs.BOTH]
        verdicts = yield from repeated(shown, judge, context, self.repeats)
        by_question = zip(questions, verdicts[::2], verdicts[1::2], strict=True)
        compared = [_pairs.joined(q, list(zip(_pairs.BOTH, said, strict=True))) for q, *said in by_question]
        return [_pairs.grade(one, both_orders, judge.name, {}) for one in compared]

    def _baseline(self, item: EvalItem) -> tuple[str, ...]:
        if self.baseline is None:
            raise ValueError("there is no baseline")
        found = _fastchat.answers(self.baseline, "baseline")
        return _fastchat.of(found, item, source_id(item), "`baseline` has no complete answer")


def both_orders(said: Sequence[Outcome]) -> float:
    """FastChat's rule (show_result.py): the winner that both games name; a tie (one half) where they disagree."""
    winners = {outcome.winner for outcome in said}
    return winners.pop() if len(winners) == 1 else 0.5


def _rates(grades: Sequence[Grade]) -> dict[str, float | None]:
    """FastChat's win_rate, loss_rate and win_rate_adjusted, and the rate of ties, in percent with their intervals."""
    wins = [graded.repeats.get("win", (graded.values.get("win"),)) for graded in grades]
    there = [[value for value in each if value is not None] for each in wins]
    clusters = [graded.cluster for graded in grades]
    found: dict[str, float | None] = {}
    for name, wanted in (("win_rate", 1.0), ("loss_rate", 0.0), ("tie_rate", 0.5)):
        shares = [each.count(wanted) / len(each) if each else None for each in there]
        found |= share(name, shares, clusters, scale=100)
    return found | share("adjusted_win_rate", [graded.values.get("win") for graded in grades], clusters, scale=100)
