"""Tasks of lm-evaluation-harness (GSM8K and any other single task), asked through our engines, scored by lm-eval."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import model_validator

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Metric, Reply, Request, Suite
from harness.errors import UserError
from harness.evaluate import _lm_ask, _lm_spec, _lm_task, _splits
from harness.evaluate._numbers import same_number
from harness.records import datafile
from harness.records.hashing import sha256
from harness.records.sources import withheld
from harness.records.values import FilePath, Share

NUMERIC = "numeric"
_BINARY = ("exact_match", "acc", "acc_norm", "acc_bytes", "acc_mutual_info")


class LMEval(Suite):
    """One lm-eval task. Contexts, few-shot examples, answer filters and metrics are lm-eval's own.

    `numeric` adds a metric that compares the final numbers of answer and gold as numbers; lm-eval's strict and flexible
    match compare texts (70.00 is not 70 to them). Test is the task's test set. Dev is `dev_rows` rows of `train_path`,
    the same that a dataset with `withhold: {rows, seed}` keeps out of a pool, or a share of the test rows with `dev`.
    """

    name: ClassVar[str] = "lm_eval"
    grading_options: ClassVar[tuple[str, ...]] = ("headline", "numeric")

    task: str = identity(
        description="A task by lm-eval's name (gsm8k, arc_challenge, ...), or the path of a task YAML."
    )
    config: dict[str, Any] = identity({}, description="Keys of the task's YAML to set otherwise.")
    test_path: FilePath | None = runtime(None, description="Local test rows (JSON, JSON lines, CSV; gzip too).")
    test_sha256: str | None = runtime(None, description="Expected SHA-256 of that file's unpacked content.")
    train_path: FilePath | None = runtime(None, description="Local rows for few-shot examples and for dev.")
    train_sha256: str | None = runtime(None, description="Expected SHA-256 of that file's unpacked content.")
    dev_rows: int = identity(0, ge=0, description="So many prompts of `train_path` are dev; dev shows none as example.")
    dev_seed: int = identity(0, description="Seed of their choice: as `seed` in the dataset's `withhold`.")
    dev_prompt: str = identity("question", description="The column of `train_path` that is the prompt in that dataset.")
    dev: Share | None = identity(
        None, description="Share of the test rows set apart as dev, where there is no train file."
    )
    fewshot: int | None = identity(None, ge=0, description="Number of examples shown (none: as the task says).")
    fewshot_seed: int = identity(1234, description="Seed of their choice.", source="lm-eval's default")
    chat_template: bool = identity(False, description="Ask in the model's chat template instead of as plain text.")
    multiturn: bool = identity(True, description="With `chat_template`: examples as turns, instead of in one message.")
    system: str | None = identity(None, description="A system prompt before everything else.")
    max_tokens: int | None = identity(
        None, ge=1, description="Length limit of an answer (none: as the task says, else 256)."
    )
    limit: int | None = identity(None, ge=1, description="Only the first so many items of a split: a subset.")
    numeric: bool = identity(False, description="Also compare final numbers as numbers.")
    headline: str | None = identity(
        None, description="The metric that comes first (none: numeric, else the task's first)."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> LMEval:
        if self.dev_rows and self.train_path is None:
            raise ValueError("dev_rows needs train_path: dev items are rows of that file")
        if self.dev_rows and self.dev is not None:
            raise ValueError("dev and dev_rows are two ways to the same split: drop one of them")
        if self.train_path is not None and self.test_path is None:
            raise ValueError("train_path needs test_path: a task's data are all local or all its own")
        return self

    def metrics(self) -> tuple[Metric, ...]:
        """The task's metrics that have a value per item, `numeric` with them, the headline first."""
        spec = self._spec()
        found = {
            name: Metric(name=name, binary=metric in _BINARY, higher_is_better=_lm_spec.higher_is_better(spec, metric))
            for name, (_, metric) in _lm_spec.metric_names(spec).items()
        }
        if self.numeric:
            found = {NUMERIC: Metric(name=NUMERIC, binary=True), **found}
        if not found:
            raise UserError(
                f"lm-eval task {self.task} has no metric with a value per item, so it cannot be compared here"
            )
        first = self.headline or next(iter(found))
        if first not in found:
            raise UserError(
                f"lm_eval suite {self.task}: no metric {first!r} for `headline`; its metrics: {', '.join(found)}"
            )
        return (found.pop(first), *found.values())

    def splits(self) -> tuple[str, ...]:
        """Test, and dev where options say what it is."""
        return ("dev", "test") if self.dev_rows else _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """The task's files, lm-eval's version and the content of the local data."""
        task = _lm_spec.identity(_lm_spec.task_file(self.task))
        files = {"test_path": (self.test_path, self.test_sha256), "train_path": (self.train_path, self.train_sha256)}
        sums = [datafile.checksum(path, known, name) if path else None for name, (path, known) in files.items()]
        return sha256([task, sums, split])

    def items(self, split: str) -> list[EvalItem]:
        """One item per document, with the requests that lm-eval makes of it.

        Raises:
            UserError: the task or a file is missing, or the task is of a kind that this suite does not do.
        """
        if split not in self.splits():
            raise UserError(f"suite {self.task} has no {split!r} split; its splits: {', '.join(self.splits())}")
        found = list(_items(self.model_dump_json(), split, self.fingerprint(split)))
        if self.dev is None:
            return found
        # Not the ids: they hold the split, and both splits must draw the same lot for a document.
        names = [f"{item.category}/{_lm_ask.document_number(item)}" for item in found]
        return _splits.part(found, names, split, self.dev, None)

    def _documents(self, split: str) -> list[EvalItem]:
        prompting = _lm_task.Prompting(
            chat=self.chat_template,
            multiturn=self.multiturn,
            system=self.system,
            limit=self.limit,
            seed=self.fewshot_seed,
        )
        name = self.task.rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
        found = _lm_task.documents(self._task(split), prompting)
        return [_lm_ask.item_of(name, split, document) for document in found]

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """All requests of the document at once: texts are generated, continuations are scored."""
        return (yield from _lm_ask.ask(item, self.name, self.max_tokens, context))

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """lm-eval's filters and metrics on the recorded responses."""
        yield from ()
        if not items:
            return []
        reasons = [_lm_ask.absent(item, answer) for item, answer in zip(items, answers, strict=True)]
        given = [(i, a) for i, a, reason in zip(items, answers, reasons, strict=True) if reason is None]
        numbers = [_lm_ask.document_number(item) for item, _ in given]
        task = self._task(_lm_ask.split_of(items[0]))
        found = iter(_lm_task.process(task, numbers, [_lm_ask.responses(item, answer) for item, answer in given]))
        names, keys = [metric.name for metric in self.metrics()], _lm_spec.metric_names(self._spec())
        return [
            _bare(item, dict.fromkeys(names), reason)
            if reason is not None
            else _grade(item, answer, next(found), names, keys)
            for item, answer, reason in zip(items, answers, reasons, strict=True)
        ]

    def notes(self) -> tuple[str, ...]:
        """Says so where this is not the whole test set."""
        return _splits.subset_notes(self.limit, self.dev)

    def _task(self, split: str) -> Any:
        return _built(self.model_dump_json(), split, self.fingerprint(split))

    def _source(self, split: str) -> _lm_task.Source:
        test = datafile.rows(self.test_path, "test_path") if self.test_path else None
        train = datafile.rows(self.train_path, "train_path") if self.train_path else None
        if split == "dev" and self.dev_rows and train is not None:
            test, train = self._apart(train)
        return _lm_task.Source(
            file=_lm_spec.task_file(self.task),
            overrides=self.config,
            test=test,
            train=train,
            fewshot=self.fewshot,
        )

    def _apart(self, train: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The dev rows of the train file, and the rest."""
        if any(self.dev_prompt not in row for row in train):
            raise UserError(
                f"{self.train_path} has rows without {self.dev_prompt!r}, the column that `dev_prompt` names"
            )
        chosen = withheld((str(row[self.dev_prompt]) for row in train), self.dev_rows, self.dev_seed)
        dev = [row for row in train if str(row[self.dev_prompt]) in chosen]
        return dev, [row for row in train if str(row[self.dev_prompt]) not in chosen]

    def _spec(self) -> dict[str, Any]:
        return {**_lm_spec.read(_lm_spec.task_file(self.task)), **self.config}


@lru_cache(maxsize=4)
def _built(suite: str, split: str, fingerprint: str) -> Any:
    """The task object of a suite (as JSON) and split; the fingerprint makes changed data another task."""
    options = LMEval.model_validate_json(suite)
    return _lm_task.build(options._source(split))  # noqa: SLF001  the suite's own cache


def _grade(
    item: EvalItem,
    answer: Answer,
    results: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
    keys: Mapping[str, tuple[str, str]],
) -> Grade:
    values: dict[str, float | None] = {}
    for name in names:
        if name == NUMERIC:
            values[name] = float(same_number(answer.outputs[0], item.reference[0]))
        else:
            filter_name, metric = keys[name]
            values[name] = _lm_task.number(results.get(filter_name, {}).get(metric))
    absent = [name for name, value in values.items() if value is None]
    return _bare(item, values, f"lm-eval gave no {absent[0]}" if absent else None)


@lru_cache(maxsize=4)
def _items(suite: str, split: str, fingerprint: str) -> tuple[EvalItem, ...]:
    return tuple(LMEval.model_validate_json(suite)._documents(split))  # noqa: SLF001  the suite's own cache


def _bare(item: EvalItem, values: Mapping[str, float | None], reason: str | None) -> Grade:
    return Grade(
        id=item.id,
        item=item.id,
        cluster=item.cluster,
        category=item.category,
        values=values,
        missing=reason,
        judge="lm-eval",
    )
