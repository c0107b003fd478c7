"""Hard prompts compared with a named baseline's answers, in the form of Arena-Hard (arXiv 2406.11939)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Reply, Request
from harness.errors import UserError
from harness.evaluate import _pairs, _splits, _style
from harness.evaluate._figures import Figures, absent, figure, share
from harness.evaluate._grading import required
from harness.evaluate._pair_suite import PairSuite
from harness.judges._tasks import source_data
from harness.records import named
from harness.records.hashing import sha256
from harness.records.values import DataFile, Share

_RESAMPLES = 2000
_STYLES = "styles"


class ArenaHard(PairSuite):
    """Prompts from a file in Arena-Hard's form; the judge sees each pair in both orders on a scale of five.

    A strong verdict (A>>B) counts `strong_weight` times. With one model against one baseline the Bradley-Terry win rate
    of arena-hard-auto is the weighted mean over all verdicts, `win_rate`; its interval is a bootstrap over prompts, so
    the two verdicts on one stay together. `win` is the same mean within one prompt. A prompt of which one order has no
    readable verdict is missing: the other order alone would be one-sided.
    """

    name: ClassVar[str] = "arena_hard"
    grading_options: ClassVar[tuple[str, ...]] = ("answers", "baseline", "strong_weight", "repeats")

    questions: DataFile = runtime(description="Prompts in Arena-Hard's form (question.jsonl: question_id, turns).")
    baseline: str = identity(description="Name of the model that all are compared with, as its answer file says.")
    answers: DataFile = runtime(
        description="Its answers in Arena-Hard's form (model_answer/*.jsonl), or JSON lines of question_id and output."
    )
    strong_weight: float = identity(
        3.0, gt=0, description="What a verdict A>>B counts.", unit="verdicts", source="arena-hard-auto, show_result.py"
    )
    max_tokens: int = identity(
        4096, ge=1, description="Length limit of an answer.", unit="tokens", source="arena-hard-auto"
    )
    temperature: float = identity(
        0.0, ge=0, description="Sampling temperature of the answers.", source="arena-hard-auto"
    )
    limit: int | None = identity(None, ge=1, description="Only the first so many prompts: a subset.")
    dev: Share | None = identity(None, description="Share of the prompts set apart as dev; test is a subset then.")

    def splits(self) -> tuple[str, ...]:
        """Test only, unless `dev` sets a share apart."""
        return _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """The hashes of the prompts and of the baseline's answers, and which prompts are asked."""
        files = [named.digest(self.questions, "questions"), named.digest(self.answers, "answers")]
        return sha256([*files, split, self.limit, self.dev])

    def identity_options(self) -> dict[str, Any]:
        """The baseline's answers count by their content."""
        return super().identity_options() | {"answers": named.digest(self.answers, "answers")}

    def items(self, split: str) -> list[EvalItem]:
        """The prompts of a split in the order of the file.

        Raises:
            UserError: a file is missing or of another form, a prompt comes twice, or the baseline left one out.
        """
        self.fingerprint(split)
        given = self._baseline_answers()
        rows, where = named.rows(self.questions, "questions"), named.place(self.questions)
        items = [_item(row, given, index, where) for index, row in enumerate(rows, start=1)]
        ids = [item.id for item in items]
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{where} has two prompts with the id of {twice}: ids must be unique")
        return _splits.part(items, ids, split, self.dev, self.limit)

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """One grade per prompt, with what was said in each order and both styles in its tags."""
        judge = required(judge, self.name, "a model, or stand_in for a dry run")
        compared = yield from _pairs.compare(items, answers, judge, lambda _: _pairs.BOTH, context, self.repeats)
        return [_pairs.grade(one, self._win, judge.name, _tags(one)) for one in compared]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Win rate, with style and length controlled, and the judge's sensitivity to order and length."""
        battles = [battle for place, grade in enumerate(grades) for battle in self._battles(place, grade)]
        if not battles:
            return absent("win_rate", len(grades))
        lost = len(grades) - len({battle.item for battle in battles})
        figures = self._win_rate(grades, battles) | _style.controlled(battles, lost)
        return figures | _pairs.sensitivity(grades) | _pairs.unflagged(grades)

    def notes(self) -> tuple[str, ...]:
        """Says who the baseline is, and where this is not the whole suite."""
        return (f"baseline: {self.baseline}", *_splits.subset_notes(self.limit, self.dev))

    def _weight(self, outcome: _pairs.Outcome) -> float:
        return self.strong_weight if outcome.strong else 1.0

    def _win(self, said: Sequence[_pairs.Outcome]) -> float:
        """The weighted mean over the verdicts on one prompt."""
        weights = [self._weight(outcome) for outcome in said]
        return sum(w * o.win for w, o in zip(weights, said, strict=True)) / sum(weights)

    def _battles(self, place: int, grade: Grade) -> list[_style.Battle]:
        """The verdicts behind a grade; identical outputs are one draw in each order."""
        if grade.values.get("win") is None:
            return []
        answer, reference = (_style.read(part) for part in grade.tags[_STYLES].split("; "))
        said = _pairs.outcomes(grade) or tuple(_pairs.Outcome(order, 0.5) for order in _pairs.BOTH)
        return [_style.Battle(place, o.win, self._weight(o), answer, reference) for o in said]

    def _win_rate(self, grades: Sequence[Grade], battles: Sequence[_style.Battle]) -> Figures:
        """The weighted mean of all verdicts, in percent, with a bootstrap over prompts.

        Missing prompts widen the interval: at its low end all are strong losses, at its high end strong wins.
        """
        import numpy as np

        table = np.zeros((len(grades), 2))
        for battle in battles:
            table[battle.item] += (battle.weight * battle.win, battle.weight)
        lost = table[:, 1] == 0
        weight = len(_pairs.BOTH) * self.repeats * max(1.0, self.strong_weight)
        rng = np.random.default_rng(20240611)
        counts = rng.multinomial(len(grades), np.full(len(grades), 1 / len(grades)), size=_RESAMPLES)
        ends = []
        for missing_win, percentile in ((0.0, 2.5), (1.0, 97.5)):
            filled = np.where(lost[:, None], (missing_win * weight, weight), table)
            drawn = counts @ filled
            ends.append(100 * float(np.percentile(drawn[:, 0] / drawn[:, 1], percentile)))
        won, weights = table.sum(axis=0)
        if ends[0] == ends[1] or len(grades) < _style.LEAST:  # a bootstrap of few or equal verdicts knows of no others
            plain = share("win_rate", [grade.values.get("win") for grade in grades], scale=100)
            low, high = plain["win_rate.low"], plain["win_rate.high"]
            ends = [ends[0] if low is None else min(ends[0], low), ends[1] if high is None else max(ends[1], high)]
        return figure("win_rate", 100 * float(won / weights), ends[0], ends[1], len(grades), int(lost.sum()))

    def _baseline_answers(self) -> dict[Any, str]:
        found: dict[Any, str] = {}
        where = named.place(self.answers)
        for number, row in enumerate(named.rows(self.answers, "answers"), start=1):
            name = row.get("model_id", row.get("model", self.baseline))
            if name != self.baseline:
                raise UserError(
                    f"{where}, row {number}: these answers are {name!r}'s, but the baseline of this suite "
                    f"is {self.baseline!r}: give that model's answers, or change `baseline`"
                )
            question = row.get("question_id", row.get("uid"))
            if not isinstance(question, str | int):
                raise UserError(f"{where}, row {number}: `question_id` should be a number or a text, not {question!r}")
            if question in found:
                raise UserError(f"{where}, row {number}: a second answer to {question}; one to each prompt is expected")
            found[question] = _said(row, number, where)
        return found


def _tags(compared: _pairs.Compared) -> dict[str, str]:
    answer = compared.question.answer
    if answer is None or not answer.outputs:
        return {}
    styles = (_style.style(text).text() for text in (answer.outputs[0], compared.question.item.reference[0]))
    return {_STYLES: "; ".join(styles)}


def _item(row: Mapping[str, Any], given: Mapping[Any, str], index: int, path: str) -> EvalItem:
    name, turns = row.get("question_id", row.get("uid")), row.get("turns")
    only = turns[0] if isinstance(turns, list) and len(turns) == 1 else None
    text = row.get("prompt") if turns is None else only.get("content") if isinstance(only, Mapping) else None
    if not isinstance(name, str | int) or not isinstance(text, str):
        raise UserError(
            f"{path}, prompt {index}: it needs `question_id` and `turns` with one user turn (Arena-Hard's form)"
        )
    if name not in given:
        raise UserError(f"{path}, prompt {index}: the baseline has no answer to {name}, so nothing can be compared")
    return EvalItem(
        id=f"arena_hard/{name}",
        turns=(text,),
        category=str(row.get("subcategory", row.get("category", ""))),
        cluster=f"arena_hard/{name}",
        reference=(given[name],),
        data=source_data(name),
    )


def _said(row: Mapping[str, Any], number: int, path: str) -> str:
    """The answer in a row: `output`, arena-hard v0.1's `choices`, or v2's `messages`."""
    try:
        if "output" in row:
            text = row["output"]
        elif "choices" in row:
            text = row["choices"][0]["turns"][0]["content"]
        else:
            text = row["messages"][-1]["content"]
            text = text["answer"] if isinstance(text, Mapping) else text
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path}, row {number}: no answer in Arena-Hard's form ({error!r} is missing)") from error
    if not isinstance(text, str):
        raise UserError(f"{path}, row {number}: the answer is no text")
    return text
