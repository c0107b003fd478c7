"""The seven kinds of block and the one method of each.

Blocks never call engines. A method that needs one is a generator: it yields a list of asks and receives the list of
replies, in order. Whoever drives it (`harness.loop`) renders, batches across rows, journals, retries and resumes, so
fan-out and chained calls are plain code:

    def make(self, item):
        (drafts,) = yield [Ask(messages=prompt, model=self.model, sampling=Sampling(n=4))]
        (verdict,) = yield [Ask(messages=ask_for_the_best(drafts), model=self.judge)]
        return [...]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.blocks.base import Block, Kind
from harness.engines.base import Completion, Logprobs, Sampling
from harness.records.example import Drop, Dropped, Example, Message
from harness.records.hashing import seed_of

if TYPE_CHECKING:
    import pandas as pd

    from harness.records.chat import ChatFormat


# --- what a block may ask -------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Ask:
    """Continue a conversation. Reply: a tuple of `sampling.n` completions.

    `speaker` is whose turn is written: `user` samples from the model's own pre-query template (Magpie). With `text`
    set, that raw text is continued instead of a rendered conversation. `model` is a role, as in the block's options.
    `draw` tells apart several asks of one item that would otherwise share their random numbers. `fixed_seed`, where
    set, replaces the derived row seed (an evaluation answer's seed comes from suite and item alone).
    """

    model: str
    messages: tuple[Message, ...] = ()
    speaker: Literal["assistant", "user"] = "assistant"
    text: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    draw: int = 0
    fixed_seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """Log-probabilities of `ids[start:]`. Reply: `Logprobs`."""

    model: str
    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True, kw_only=True)
class Embed:
    """The embedding of one sequence. Reply: float32 vector, shape (hidden,)."""

    model: str
    ids: tuple[int, ...]


Request = Ask | Score | Embed
Reply = Any  # tuple[Completion, ...] for Ask, Logprobs for Score, np.ndarray for Embed: aligned with the requests
Asking = Generator[Sequence[Request], Sequence[Reply], Any]
Made = Sequence[Example | Dropped] | Drop
"""What became of one item."""


class Tolerant(list[Request]):
    """Requests of several rows in one yield: one that fails gets its exception as its reply; nothing is raised."""


# --- what a block is given ------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Weakness:
    """One category of the last dev evaluation: its mean score, as a share of its suite's best value, over n items."""

    category: str
    score: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What the dev split told: categories from weakest to strongest, and the ids of failed items."""

    categories: tuple[Weakness, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that a block may know beyond its rows."""

    iteration: int = 1
    seed: int = 0
    """The data seed; for a finetune, the training seed."""
    block: str = ""
    feedback: Feedback | None = None
    chats: Mapping[str, ChatFormat] = field(default_factory=dict)
    """Role to the chat format (tokenizer) of the model bound to it."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """The prompt pack of the block's model: entry name to template with {placeholders}."""

    def rng(self, *parts: Any) -> random.Random:
        """A generator of its own for (data seed, block, iteration, parts)."""
        return random.Random(seed_of(self.seed, self.block, self.iteration, *parts))


@dataclass(frozen=True, kw_only=True)
class Item:
    """One unit of a synthesizer's work. `id` is unique in the stage; `row` the example that it starts from, if any."""

    id: str
    row: Example | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


# --- the kinds ------------------------------------------------------------------------------------------------------
class Synthesizer(Block):
    kind: ClassVar[Kind] = "synthesize"
    random: ClassVar[bool] = True
    reads_rows: ClassVar[bool] = True
    """False where the block makes rows from nothing (Magpie)."""

    def uses_feedback(self) -> bool:
        """True where these options read the last dev evaluation."""
        return False

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """The work to do, in a fixed order."""
        raise NotImplementedError

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """Yields asks, receives replies, returns examples (a dropped one with its reason), or why there are none."""
        raise NotImplementedError


Columns = Mapping[str, Sequence[float | None]]


class Scorer(Block):
    """Adds score columns; never drops a row. A row that cannot be scored gets None."""

    kind: ClassVar[Kind] = "score"

    def columns(self) -> tuple[str, ...]:
        """Names of the score columns that `score` gives."""
        raise NotImplementedError

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Scores one batch: yields asks where it needs a model (else `yield from ()`), returns aligned columns."""
        raise NotImplementedError


class Selector(Block):
    kind: ClassVar[Kind] = "select"

    def needs(self) -> tuple[str, ...]:
        """Columns that `select` reads besides id and group: scores, `tag:<name>`, prompt, answer, digest, weight."""
        return ()

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Per row, in order: None keeps it, a short stable text drops it for that reason."""
        raise NotImplementedError


class PairBuilder(Block):
    kind: ClassVar[Kind] = "pair"

    def pair(self, rows: Iterable[Example], context: Context) -> Iterator[Example | Dropped]:
        """Examples with `rejected` set; rows that give no pair come out as Dropped with the reason."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training did. Losses are nats per token; `history` is one dict per logged optimizer step (key `step`)."""

    steps: int
    rows: int
    train_tokens: int
    loss_tokens: int
    first_loss: float | None
    last_loss: float | None
    history: tuple[Mapping[str, float], ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows that could not train, by reason."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows that trained and are worth knowing of: `truncated`, `identical pairs`, ..."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time by part: import, load, encode, setup, train, save."""
    runtime: Mapping[str, str] = field(default_factory=dict)
    """How it ran: device, precision, layout of the batches, step that it resumed from."""


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a trainer is given. `start`, `reference`: model folders; `work`: where checkpoints survive a kill."""

    start: Path
    out: Path
    work: Path
    seed: int
    reference: Path | None = None
    device: str = "auto"
    threads: int = 1
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None
    """Called with (step, total steps, metrics) at each logged step."""


class Trainer(Block):
    kind: ClassVar[Kind] = "finetune"
    random: ClassVar[bool] = True

    def train(self, rows: Iterable[Example], context: TrainContext) -> TrainReport:
        """Trains `context.start` on the rows and writes the model folder `context.out` (weights, config, tokenizer)."""
        raise NotImplementedError


# --- evaluation -----------------------------------------------------------------------------------------------------
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
    random: ClassVar[bool] = False

    def metrics(self) -> tuple[Metric, ...]:
        """All metrics; the first is the headline."""
        raise NotImplementedError

    def splits(self) -> tuple[str, ...]:
        """`("test",)` or `("dev", "test")`."""
        raise NotImplementedError

    def fingerprint(self, split: str) -> str:
        """Content identity of the items of a split (file hashes, generator version), known before anything runs."""
        raise NotImplementedError

    def items(self, split: str) -> list[EvalItem]:
        """The items of a split, in a fixed order."""
        raise NotImplementedError

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks the model under test (role `model`). Sampling seeds come from (suite, item, turn) alone."""
        raise NotImplementedError

    def needs_judge(self) -> bool:
        """True where `grade` asks the experiment's `judge`."""
        return False

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """Grades aligned answers. An item without an answer is graded as missing, with the reason."""
        raise NotImplementedError

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Aggregates that are not plain means over items (win rates of a package, length control). Default: none."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Sentences that must stand beside the scores, such as why an aggregate is not available. Default: none."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge said about one answer: a score (1..10) or a preference (1 = reference wins ... 2 = answer wins)."""

    score: float | None
    preference: float | None = None
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

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """Judges turn `turn` (0-based) of an answer. Asks go to role `judge`."""
        raise NotImplementedError


__all__ = [
    "Answer",
    "Ask",
    "Asking",
    "Columns",
    "Completion",
    "Context",
    "Drop",
    "Embed",
    "EvalItem",
    "Feedback",
    "Grade",
    "Item",
    "Judge",
    "Logprobs",
    "Made",
    "Metric",
    "PairBuilder",
    "Reply",
    "Request",
    "Sampling",
    "Score",
    "Scorer",
    "Selector",
    "Suite",
    "Synthesizer",
    "Tolerant",
    "TrainContext",
    "TrainReport",
    "Trainer",
    "Verdict",
    "Weakness",
]  # fmt: skip
