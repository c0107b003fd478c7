"""Suites of a user's own: prompts in a file, graded by a check against a reference or by a judge with a rubric."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import ValidationError, model_validator

from harness.blocks import registry
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
from harness.evaluate import _checks, _custom_rows, _splits
from harness.evaluate._checks import Check
from harness.evaluate._custom_rows import Form, Row, graded_turns
from harness.evaluate._grading import Question, grade_of, judgements, means, repeated, required, scored
from harness.evaluate._talk import converse, missing
from harness.judges._tasks import before_data, scheme_data, source_data
from harness.records import named
from harness.records.hashing import sha256
from harness.records.values import DataFile, Share

Asking = Generator[Sequence[Request], Sequence[Reply], list[Grade]]
BEST = 10


class Custom(Suite):
    """Questions of your own, one per line of a JSONL file: `prompt`, `turns` or `messages`, and what makes them graded.

    With `check` an answer is right or wrong by each row's `reference` (accuracy; no judge). Without it the experiment's
    judge grades the last answer from 1 to `scale` by the row's `rubric`, the suite's, or the judge's usual wording; a
    row's reference is shown to it. Rows may also have `id`, `category`, `system` and `gold` (a right answer, with which
    `loopbench show SUITE --check` proves the suite). Other columns are left alone.
    """

    name: ClassVar[str] = "custom"
    grading_options: ClassVar[tuple[str, ...]] = ("check", "rubric", "scale", "repeats")

    path: DataFile = runtime(description="JSON lines with one question each; a JSON list or CSV will do, gzip too.")
    columns: dict[str, str] = identity({}, description="Renames: field that is expected to the file's column.")
    check: Check | None = identity(
        None, description="exact, contains, regex, numeric, json_schema, or a block of your own; none: a judge grades."
    )
    rubric: str | None = identity(None, description="What the judge looks for, where a row has no rubric of its own.")
    scale: int = identity(BEST, ge=2, le=100, description="Best grade of the rubric; the worst is 1.", unit="points")
    repeats: int = identity(1, ge=1, description="How often each answer is judged; the value is the mean.")
    system: str | None = identity(None, description="System turn of every row that has none of its own.")
    max_tokens: int = identity(1024, ge=1, description="Length limit of an answer.", unit="tokens")
    temperature: float = identity(0.0, ge=0, description="Sampling temperature of the answers.")
    limit: int | None = identity(None, ge=1, description="Only the first so many rows: a subset.")
    dev: Share | None = identity(
        None, description="Share of the rows set apart as dev, by their ids; test is the rest."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Custom:
        if self.check is not None:
            judged = {"rubric": self.rubric is not None, "scale": self.scale != BEST, "repeats": self.repeats > 1}
            if named_too := [name for name, there in judged.items() if there]:
                raise ValueError(f"`{named_too[0]}` is for a judge, and `check` needs none: take one of the two out")
            if self.check.kind == "block":
                _own_block(self.check)
        unknown = set(self.columns) - set(_custom_rows.FIELDS)
        if unknown:
            raise ValueError(f"columns: there is no field {min(unknown)!r}; {', '.join(_custom_rows.FIELDS)}")
        return self

    def metrics(self) -> tuple[Metric, ...]:
        """The share of right answers, or the judge's grade from 1 to `scale`."""
        if self.check is not None:
            return (Metric(name="accuracy", binary=self.check.kind != "block"),)
        return (Metric(name="score", unit="points", bounds=(1.0, float(self.scale))),)

    def splits(self) -> tuple[str, ...]:
        """Test only, unless `dev` sets a share apart."""
        return _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """The hash of the file, and which of its rows are asked. Reads the rows, so mistakes show before a run."""
        self._rows()
        return sha256([named.digest(self.path, "path"), split, self.limit, self.dev])

    def identity_options(self) -> dict[str, Any]:
        """A checker of one's own counts with its version."""
        options = super().identity_options()
        if self.check is not None and self.check.kind == "block":
            options["check"]["version"] = _own_block(self.check).version
        return options

    def items(self, split: str) -> list[EvalItem]:
        """The rows of a split in the order of the file; which are dev depends on ids (without: on texts) alone.

        Raises:
            ConfigError: every mistake of the file, with its line.
        """
        rows = self._rows()
        items = [self._item(row, row.id or str(index)) for index, row in enumerate(rows)]
        names = [row.id or sha256([list(row.turns), [dict(message) for message in row.before]]) for row in rows]
        return _splits.part(items, names, split, self.dev, self.limit)

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks the user turns one after the other."""
        return (
            yield from converse(item, self.name, Sampling(max_tokens=self.max_tokens, temperature=self.temperature))
        )

    def gold(self, item: EvalItem) -> Answer | None:
        """A right answer: the row's `gold`, else its reference where that is one (not for patterns and schemas)."""
        texts = item.data["gold"]
        graded = item.data["graded"]
        if any(texts[turn] is None for turn in graded):
            return None
        return Answer(item=item.id, outputs=tuple(text or "" for text in texts))

    def needs_judge(self) -> bool:
        """True without a `check`."""
        return self.check is None

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Asking:
        """One grade per row, or per turn that has a reference."""
        pairs = zip(items, answers, strict=True)
        questions = [Question(item, answer, turn) for item, answer in pairs for turn in item.data["graded"]]
        if self.check is None:
            judge = required(judge, self.name, "a model, or stand_in for a dry run")
            verdicts = yield from repeated(questions, judge, context, self.repeats)
            return [scored(q, several, "score", judge.name) for q, several in zip(questions, verdicts, strict=True)]
        if self.check.kind == "block":
            return (yield from _by_block(questions, _own_block(self.check), context))
        return [self._checked(question) for question in questions]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Means per category and per turn, where rows have them, with their intervals."""
        (metric,) = self.metrics()
        return means(grades, metric, "category") | means(grades, metric, "turn")

    def notes(self) -> tuple[str, ...]:
        """Says so where not all rows are asked."""
        return _splits.subset_notes(self.limit, self.dev)

    def _rows(self) -> list[Row]:
        scale = self.scale if self.check is None and self.scale != BEST else None
        form = Form(columns=self.columns, check=self.check, rubric=self.rubric, scale=scale)
        return _read(self.path, named.digest(self.path, "path"), form.model_dump_json())

    def _item(self, row: Row, name: str) -> EvalItem:
        literal = row.check is None or row.check.kind in ("exact", "contains", "numeric")
        shown = [str(a[0]) if a and literal else "" for a in row.accepted]
        gold = [right if right is not None else text or None for right, text in zip(row.gold, shown, strict=True)]
        graded = list(graded_turns(row, row.check is not None))
        truth: dict[str, Any] = {}
        if row.check is not None:
            truth = {"check": row.check.model_dump(), "accepted": [list(a) for a in row.accepted]}
        own = {} if row.rubric is None else scheme_data(row.rubric, self.scale)
        return EvalItem(
            id=f"custom/{name}",
            turns=row.turns,
            category=row.category,
            cluster=f"custom/{name}",
            system=row.system if row.system is not None else self.system,
            reference=tuple(shown) if any(shown) else (),
            truth=truth,
            data=source_data(name, graded=graded, gold=gold) | own | before_data(row.before),
        )

    def _checked(self, question: Question) -> Grade:
        item, turn = question.item, question.turn
        check = Check.model_validate(item.truth["check"])
        answer = question.answer
        reason = missing(answer, turn)
        if answer is None or reason is not None:
            verdict = Verdict(score=None, reason=reason or "no answer", parsed=False)
            return grade_of(question, verdict, {"accuracy": None}, f"{check.kind} check")
        accepted = [check.form] if check.form is not None else item.truth["accepted"][turn]
        found = _checks.run(check, answer.outputs[turn], accepted)
        verdict = Verdict(score=None, reason=found.reason)
        return grade_of(question, verdict, {"accuracy": float(found.right)}, f"{check.kind} check")


def _by_block(questions: Sequence[Question], block: Judge, context: Context) -> Asking:
    """Grades of a judge block that asks no model: 1..10 as a share."""
    verdicts = yield from judgements(questions, block, context)
    read = [_within(verdict) for verdict in verdicts]
    shares = [None if v.score is None else (v.score - 1) / (BEST - 1) for v in read]
    together = zip(questions, read, shares, strict=True)
    return [grade_of(q, replace(v, score=None), {"accuracy": share}, block.name) for q, v, share in together]


def _within(verdict: Verdict) -> Verdict:
    """The verdict, or a missing one where its grade is no number from 1 to 10: a share must lie between 0 and 1."""
    if not verdict.parsed or (verdict.score is not None and 1 <= verdict.score <= BEST):
        return verdict
    return replace(verdict, score=None, parsed=False, reason=f"the grade {verdict.score} is not between 1 and {BEST}")


def _own_block(check: Check) -> Judge:
    """The checker of a package, with its options.

    Raises:
        ValueError: there is no such block, its options do not fit, or it asks a model.
    """
    try:
        block = registry.get("judge", str(check.block)).model_validate(check.options)
    except UserError as error:
        raise ValueError(f"check.block: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or str(check.block)
        raise ValueError(f"check.options: {place}: {first['msg'].removeprefix('Value error, ')}") from error
    if not isinstance(block, Judge) or block.asks_model:
        raise ValueError(f"check.block: {check.block} asks a model; name it as the suite's `judge:` instead")
    return block


@lru_cache(maxsize=8)
def _read(file: DataFile, digest: str, form: str) -> list[Row]:  # digest: a changed file is read again
    return _custom_rows.read(file, Form.model_validate_json(form))
