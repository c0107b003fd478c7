"""Suites and judges: items, answers, grades, metrics and verdicts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from harness.blocks.base import Block, Kind
from harness.blocks.given import Context
from harness.blocks.requests import Reply, Request


@dataclass(frozen=True, kw_only=True)
class EvalItem:
    """One question. `turns` are the user turns; `cluster` joins items that share a question.

    `truth` is what an oracle or a checker knows, `data` what the suite needs besides; both are JSON.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""
    cluster: str = ""
    system: str | None = None
    reference: tuple[str, ...] = ()
    truth: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answers to one item: one text per turn, with why each ended and what it cost in tokens."""

    item: str
    outputs: tuple[str, ...]
    finish: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    """JSON extras (log-likelihoods of choices, rendered prompt, ...)."""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """The score of one item (or of one turn of it: then `id` says so and `cluster` joins them).

    `values` holds one number per metric; None is missing, with the reason in `missing`. Never a -1, never a tie.
    """

    id: str
    item: str
    cluster: str
    category: str
    values: Mapping[str, float | None]
    missing: str | None = None
    judge: str | None = None
    """Who graded: `oracle`, a judge model's name, `exact match`, ..."""
    judge_text: str | None = None
    judged_tokens: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    repeats: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Metric to the value that each repeat of the judgement gave (None: not readable); empty where it was judged once.
    The value is then the mean of those that are there."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric's meaning. `unit`: share (0..1) or points; `binary` where each item gives 0 or 1.

    `bounds`: the lowest and the highest value of one grade, (0, 1) for shares. Without them a missing grade could be
    anything, so nothing is concluded where grades are missing or where none differs.
    """

    name: str
    unit: Literal["share", "points", "characters", "tokens"] = "share"
    higher_is_better: bool = True
    binary: bool = False
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        ends = (0.0, 1.0) if self.bounds is None and self.unit == "share" else self.bounds
        object.__setattr__(self, "bounds", None if ends is None else (float(ends[0]), float(ends[1])))


class Suite(Block):
    """What is measured. `version` and the item set decide which scores may be compared."""

    kind: ClassVar[Kind] = "suite"
    scorer: ClassVar[int] = 1
    """Raised whenever the same answers would get other grades. Answers are kept then; only grading is done anew."""
    random: ClassVar[bool] = False

    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics; the first is the headline."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """`("test",)` or `("dev", "test")`."""

    @abstractmethod
    def fingerprint(self, split: str) -> str:
        """Content identity of the items of a split (file hashes, generator version), known before anything runs."""

    @abstractmethod
    def items(self, split: str) -> list[EvalItem]:
        """The items of a split, in a fixed order."""

    @abstractmethod
    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks the model under test (role `model`). Sampling seeds come from (suite, item, turn) alone."""

    def needs_judge(self) -> bool:
        """True where `grade` asks the experiment's `judge`."""
        return False

    @abstractmethod
    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """Grades aligned answers, item by item; one without an answer is graded as missing, with the reason.

        It is given a shard at a time and resumed by shards, so a grade may depend on its own item and answer only. What
        needs all of them belongs in `summarise`.
        """

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Aggregates that are not plain means over items (win rates of a package, length control). Default: none."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Sentences that must stand beside the scores, such as why an aggregate is not available. Default: none."""
        return ()

    def for_model(self, name: str) -> Suite:
        """The suite for recorded verdicts on a model that is known by name (its published coefficients, say)."""
        return self

    def opponents(self) -> frozenset[str]:
        """Names of the models whose answers the items' references are, where they say so (pairs). Default: none."""
        return frozenset()

    # What proves a suite on itself (`loopbench show SUITE --check`), and says whether given answers fit its items.
    def gold(self, item: EvalItem) -> Answer | None:
        """The answer that must earn `gold_value`; None where the item tells none. Default: its references."""
        whole = len(item.reference) == len(item.turns)
        return Answer(item=item.id, outputs=item.reference) if whole else None

    def gold_value(self) -> float | None:
        """What a gold answer earns in the headline; None where it has no such value. Default: its best value."""
        metric = self.metrics()[0]
        return None if metric.bounds is None else metric.bounds[1 if metric.higher_is_better else 0]

    def empty(self, item: EvalItem) -> Answer:
        """The answer of a model that says nothing."""
        return Answer(item=item.id, outputs=("",) * len(item.turns))

    def misfit(self, item: EvalItem, answer: Answer) -> str | None:
        """Why outputs that are given cannot be an answer to the item; None where they can. Default: a text per turn."""
        given, turns = len(answer.outputs), len(item.turns)
        are = "outputs are" if given != 1 else "output is"
        return None if given == turns else f"{item.id} has {turns} turn{'s'[: turns > 1]}, but {given} {are} given"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge said about one answer: a score (1..10) or a preference (1 = reference wins ... 2 = answer wins)."""

    score: float | None
    preference: float | None = None
    strong: bool = False
    """The judge said so with emphasis (A>>B); the suite decides what that counts."""
    reason: str = ""
    raw: str = ""
    parsed: bool = True
    tokens: int = 0


class Judge(Block):
    kind: ClassVar[Kind] = "judge"
    label: ClassVar[str] = ""
    """Shown wherever its scores are, e.g. `ORACLE judge (programmatic)`."""
    stand_in: ClassVar[bool] = False
    """True for a programmatic stand-in, which can never satisfy a gate on a real suite."""
    asks_model: ClassVar[bool] = False
    """True where verdicts come from the model bound to the role `judge`, which must then be one that writes."""

    @abstractmethod
    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """Judges turn `turn` (0-based) of an answer. Asks go to role `judge`."""
