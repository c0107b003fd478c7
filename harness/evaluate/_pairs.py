"""Comparing answers with a reference: asks a judge in one order or both, keeps what it said in each, measures its bias.

What was said in each order stands in the tags of a grade; suites write and read it through the functions here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Reply, Request, Verdict
from harness.evaluate._figures import Figures, share
from harness.evaluate._grading import BETWEEN, Question, grade_of, repeated
from harness.evaluate._talk import missing
from harness.judges._tasks import Order, opponent, pair, source_id
from harness.judges.replay import Replay

BOTH: tuple[Order, ...] = ("reference first", "answer first")
SHOWN, REFERENCE_LENGTH, INDEX, FLAG = "shown", "reference_length", "index", "flag"
_STRONG = "!"


@dataclass(frozen=True)
class Outcome:
    """One verdict on a pair: the order shown, the answer's share of the win (0..1), and whether it was by far."""

    order: Order
    win: float
    strong: bool = False

    @property
    def first(self) -> float:
        """The share of the win that went to the one shown first."""
        return self.win if self.order == "answer first" else 1 - self.win

    @property
    def winner(self) -> float:
        """1: the answer, 0: the reference, 0.5: neither."""
        return 0.5 if self.win == 0.5 else float(self.win > 0.5)


@dataclass(frozen=True)
class Compared:
    """All that was said about one pair, by repeat; no repeat where the outputs are identical, which is a draw."""

    question: Question
    repeats: tuple[tuple[Outcome, ...] | None, ...] = ()
    """Per repeat, what was said in each order; None where a verdict of it is missing."""
    reason: str = ""
    raw: str = ""
    tokens: int = 0

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What was said in all repeats that are whole."""
        return tuple(outcome for repeat in self.repeats for outcome in repeat or ())

    @property
    def lost(self) -> bool:
        """True where no repeat gave all its verdicts."""
        return bool(self.repeats) and not any(self.repeats)


def compare(
    items: Sequence[EvalItem],
    answers: Sequence[Answer],
    judge: Judge,
    orders: Callable[[EvalItem], tuple[Order, ...]],
    context: Context,
    repeats: int = 1,
) -> Generator[Sequence[Request], Sequence[Reply], list[Compared]]:
    """What the judge says about every answer and its reference, in the orders asked for, aligned with the items."""
    questions = [Question(item, answer) for item, answer in zip(items, answers, strict=True)]
    # Recorded annotations hold their draws too, perhaps with another reference text: then they are what counts.
    asked = [i for i, question in enumerate(questions) if isinstance(judge, Replay) or not _same(question)]
    shown = [(i, order) for i in asked for order in _shown(questions[i].item, orders, judge)]
    pairs = [Question(pair(questions[i].item, order), questions[i].answer) for i, order in shown]
    verdicts = yield from repeated(pairs, judge, context, repeats)
    said: dict[int, list[tuple[Order, tuple[Verdict, ...]]]] = {}
    for (i, order), several in zip(shown, verdicts, strict=True):
        said.setdefault(i, []).append((order, several))
    return [joined(question, said.get(i, ())) for i, question in enumerate(questions)]


def grade(compared: Compared, win: Callable[[Sequence[Outcome]], float], judge: str, tags: Mapping[str, str]) -> Grade:
    """The grade of a pair: the answer's share of the win and its length, with what was said in each order.

    Args:
        compared: what was said.
        win: the share of the win (0..1) that the outcomes of one repeat give.
        judge: who said it.
        tags: further tags.
    """
    question = compared.question
    shares = tuple(win(repeat) if repeat else None for repeat in compared.repeats)
    there = [value for value in shares if value is not None]
    value = fmean(there) if there else None if compared.repeats else 0.5
    length, turn = None, question.turn
    if question.answer is not None and missing(question.answer, turn) is None:
        length = float(len(question.answer.outputs[turn]))
    verdict = Verdict(
        score=None,
        reason=compared.reason,
        raw=compared.raw,
        parsed=not compared.lost,
        tokens=compared.tokens,
    )
    made = grade_of(question, verdict, {"win": value, "length": length}, judge)
    own = {REFERENCE_LENGTH: str(len(opponent(question.item)[turn])), INDEX: str(source_id(question.item))}
    said = {SHOWN: _written(compared.outcomes)} if compared.outcomes else {}
    made = replace(made, tags={**made.tags, **own, **said, **tags})
    return made if len(shares) < 2 else replace(made, repeats={"win": shares})


def mean_win(said: Sequence[Outcome]) -> float:
    """The mean over the orders shown."""
    return fmean(outcome.win for outcome in said)


def outcomes(graded: Grade) -> tuple[Outcome, ...]:
    """What was said in each order, from a grade's tags; nothing for a draw of identical outputs."""
    return tuple(_read(part) for part in graded.tags.get(SHOWN, "").split("; ") if part)


def sensitivity(grades: Sequence[Grade]) -> Figures:
    """How far the judge's verdicts hang on order and on length, each with its interval.

    `position:flips`: share of pairs shown in both orders for which the two do not name the same winner (one minus the
    consistency of arXiv 2306.05685, section 4.2). `position:first`: share of the wins that went to the one shown first,
    one half without bias. `length:prefers_longer`: share of the wins that went to the longer of two. `length:longer`
    and `length:shorter`: the answers' wins where they are longer and shorter than the reference.
    """
    said = [(graded.item, outcomes(graded)) for graded in grades]
    twice = [(item, several) for item, several in said if len({o.order for o in several}) == len(BOTH)]
    longer, shorter = _by_length(grades, 1), _by_length(grades, -1)
    figures = _share("position:flips", [(item, float(_flipped(several))) for item, several in twice]) if twice else {}
    figures |= _share("position:first", [(item, outcome.first) for item, several in said for outcome in several])
    figures |= _share("length:prefers_longer", longer + [(item, 1 - win) for item, win in shorter])
    return figures | _share("length:longer", longer) | _share("length:shorter", shorter)


def unflagged(grades: Sequence[Grade], scale: float = 100) -> Figures:
    """The win rate without the answers that carry a flag (see `_flags`), and how many do; nothing where none does."""
    kept = [graded for graded in grades if not graded.tags.get(FLAG)]
    if len(kept) == len(grades):
        return {}
    wins = [graded.values.get("win") for graded in kept]
    return {"n_flagged": float(len(grades) - len(kept))} | share("win_rate:unflagged", wins, scale=scale)


def _share(name: str, values: Sequence[tuple[str, float]]) -> Figures:
    """A share over verdicts, each with its item."""
    return share(name, [value for _, value in values], [item for item, _ in values])


def _by_length(grades: Sequence[Grade], sign: int) -> list[tuple[str, float]]:
    """Wins of the answers that are longer (1) or shorter (-1) than their reference."""
    found = []
    for graded in grades:
        win, length = graded.values.get("win"), graded.values.get("length")
        if win is not None and length is not None and sign * (length - int(graded.tags[REFERENCE_LENGTH])) > 0:
            found.append((graded.item, win))
    return found


def _shown(item: EvalItem, orders: Callable[[EvalItem], tuple[Order, ...]], judge: Judge) -> tuple[Order, ...]:
    """The orders to ask for; of recorded verdicts those that the file tells apart."""
    return judge.orders(item, orders(item)) if isinstance(judge, Replay) else orders(item)


def _same(question: Question) -> bool:
    return question.answer is not None and question.answer.outputs[:1] == question.item.reference


def _flipped(said: Sequence[Outcome]) -> bool:
    """Whether the two orders name different winners, by the mean over the repeats of each."""
    means = [fmean(o.win for o in said if o.order == order) for order in BOTH]
    return len({Outcome(BOTH[0], win).winner for win in means}) > 1


def joined(question: Question, said: Sequence[tuple[Order, tuple[Verdict, ...]]]) -> Compared:
    """What was said about a pair in each order, repeat by repeat; nothing was said of identical outputs."""
    if not said:
        return Compared(question, reason="identical outputs")
    flat = [verdict for _, several in said for verdict in several]
    lost = next((verdict.reason for verdict in flat if verdict.preference is None), "")
    return Compared(
        question=question,
        repeats=tuple(
            _whole([(order, several[number]) for order, several in said]) for number in range(len(said[0][1]))
        ),
        reason=lost,
        raw=BETWEEN.join(text for verdict in flat if (text := verdict.raw or verdict.reason)),
        tokens=sum(verdict.tokens for verdict in flat),
    )


def _whole(said: Sequence[tuple[Order, Verdict]]) -> tuple[Outcome, ...] | None:
    """One repeat: its outcomes, or None where one is missing (what the other order said would be one-sided)."""
    found = [
        Outcome(order, verdict.preference - 1, verdict.strong)
        for order, verdict in said
        if verdict.preference is not None
    ]
    return tuple(found) if len(found) == len(said) else None


def _written(said: Sequence[Outcome]) -> str:
    return "; ".join(f"{o.order} {o.win!r}{_STRONG if o.strong else ''}" for o in said)


def _read(part: str) -> Outcome:
    order, _, win = part.rpartition(" ")
    return Outcome(
        "answer first" if order == "answer first" else "reference first",
        float(win.removesuffix(_STRONG)),
        win.endswith(_STRONG),
    )
