"""Tasks of lm-evaluation-harness, by name: one, several or a group, asked through our engines, scored by lm-eval."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version as package_version
from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Grade, Judge, Metric, Reply, Request, Suite
from harness.engines.base import Capability
from harness.errors import UserError
from harness.evaluate import (
    _lm_ask,
    _lm_build,
    _lm_data,
    _lm_grade,
    _lm_metrics,
    _lm_spec,
    _lm_summary,
    _lm_task,
    _splits,
)
from harness.evaluate._lm_metrics import NUMERIC
from harness.records import datafile
from harness.records.hashing import sha256
from harness.records.sources import withheld
from harness.records.values import FilePath, Share


class LMEval(Suite):
    """lm-eval tasks. Contexts, few-shot examples, answer filters, metrics and aggregations are lm-eval's own.

    What a model is asked, token by token, is what lm-eval's own `hf` model would read of the same weights.
    `numeric` adds a metric that compares the final numbers of answer and gold as numbers; lm-eval's strict and flexible
    match compare texts (70.00 is not 70 to them). Test is the task's test set. Dev is `dev_rows` rows of `train_path`,
    the same that a dataset with `withhold: {rows, seed}` keeps out of a pool, or a share of the test rows with `dev`.
    """

    name: ClassVar[str] = "lm_eval"
    version: ClassVar[int] = 2  # since 2: texts that are too long are cut at the left, as lm-eval does
    grading_options: ClassVar[tuple[str, ...]] = ("headline", "numeric")

    task: tuple[str, ...] = identity(
        description="Tasks, groups or tags by lm-eval's names (gsm8k, mmlu), one or a list, or paths of task YAMLs."
    )
    config: dict[str, Any] = identity({}, description="Keys of the tasks' YAML to set otherwise.")
    folder: FilePath | None = runtime(
        None, description="Folder with the tasks' local rows: a copy of the hub's dataset, or <task>/<split>.jsonl."
    )
    test_path: FilePath | None = runtime(
        None, description="Local test rows (JSON, JSON lines, CSV, Parquet; gzip too)."
    )
    test_sha256: str | None = runtime(None, description="Expected SHA-256 of that file's unpacked content.")
    train_path: FilePath | None = runtime(None, description="Local rows for few-shot examples and for dev.")
    train_sha256: str | None = runtime(None, description="Expected SHA-256 of that file's unpacked content.")
    revision: str | None = identity(
        None, description="Commit of the dataset on the hub, where no local rows are named."
    )
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
    limit: int | None = identity(None, ge=1, description="Only the first so many items of each task: a subset.")
    numeric: bool = identity(False, description="Also compare final numbers as numbers.")
    headline: str | None = identity(
        None, description="The metric that comes first (none: numeric, else the task's first)."
    )

    @field_validator("task", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _options_fit(self) -> LMEval:
        if not self.task:
            raise ValueError("task names nothing: write one of lm-eval's names")
        if self.dev_rows and self.train_path is None:
            raise ValueError("dev_rows needs train_path: dev items are rows of that file")
        if self.dev_rows and self.dev is not None:
            raise ValueError("dev and dev_rows are two ways to the same split: drop one of them")
        if self.train_path is not None and self.test_path is None:
            raise ValueError("train_path needs test_path: a task's data are all local or all its own")
        if self.folder is not None and self.test_path is not None:
            raise ValueError("folder and test_path are two places of the same rows: drop one of them")
        if self.revision is not None and (self.folder or self.test_path):
            raise ValueError("revision is a commit on the hub, but the rows are local: drop one of them")
        return self

    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that all tasks have and that have a value per item, `numeric` with them, the headline first."""
        found = {m.item_name: m.as_metric() for m in self._measured() if m.mean or m.alone}
        found = dict(sorted(found.items(), key=lambda pair: pair[0].startswith("item_")))
        if self.numeric:
            found = {NUMERIC: Metric(name=NUMERIC, binary=True), **found}
        first = self.headline or next(iter(found))
        if first not in found:
            raise UserError(
                f"lm_eval suite {self._called()}: no metric {first!r} for `headline`; its metrics: {', '.join(found)}"
            )
        return (found.pop(first), *found.values())

    def splits(self) -> tuple[str, ...]:
        """Test, and dev where options say what it is."""
        return ("dev", "test") if self.dev_rows else _splits.names(self.dev)

    def fingerprint(self, split: str) -> str:
        """The tasks' files and versions, lm-eval's version, and the content of local rows (else the hub's commit)."""
        leaves = self._tree().leaves()
        files = {"test_path": (self.test_path, self.test_sha256), "train_path": (self.train_path, self.train_sha256)}
        sums: Any = [datafile.checksum(path, known, name) if path else None for name, (path, known) in files.items()]
        if self.folder is not None:
            found = [path for leaf in leaves for paths in self._files(leaf).values() for path in paths]
            sums = [datafile.checksum(str(path), None, "folder") for path in found]
        return sha256([[_lm_spec.identity(leaf) for leaf in leaves], sums, split])

    def items(self, split: str) -> list[EvalItem]:
        """One item per document, task after task, with the requests that lm-eval makes of it.

        Raises:
            UserError: a task or a file is missing, or a task is of a kind that this suite does not do.
        """
        if split not in self.splits():
            raise UserError(f"suite {self._called()} has no {split!r} split; its splits: {', '.join(self.splits())}")
        found = list(_items(self.model_dump_json(), split, self.fingerprint(split)))
        if self.dev is None:
            return found
        # Not the ids: they hold the split, and both splits must draw the same lot for a document.
        names = [f"{item.category}/{_lm_ask.document_number(item)}" for item in found]
        return _splits.part(found, names, split, self.dev, None)

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """All requests of the document at once: texts are generated, continuations are scored."""
        return (yield from _lm_ask.ask(item, self.name, self.max_tokens, context))

    def grade(
        self, items: Sequence[EvalItem], answers: Sequence[Answer], judge: Judge | None, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Grade]]:
        """lm-eval's filters and metrics on the recorded responses, item by item."""
        yield from ()
        names, measured = [metric.name for metric in self.metrics()], self._measured()
        found: dict[str, Grade] = {}
        marks = {split: self.fingerprint(split) for split in {_lm_ask.split_of(item) for item in items}}
        for leaf in self._tree().leaves():
            pairs = [(i, a) for i, a in zip(items, answers, strict=True) if i.category == leaf.name]
            if pairs:
                split = _lm_ask.split_of(pairs[0][0])
                task = _built(self.model_dump_json(), leaf.name, split, marks[split])
                found |= {grade.id: grade for grade in _lm_grade.grades(task, leaf, pairs, names, measured)}
        return [found[item.id] for item in items]

    def summarise(self, grades: Sequence[Grade]) -> Mapping[str, float | None]:
        """Corpus metrics by lm-eval's own aggregation; tasks and groups, where there are several; with intervals."""
        return _lm_summary.summary(self._tree(), self._measured(), self.config, grades)

    def notes(self) -> tuple[str, ...]:
        """Whose tasks these are, in which version, and where they are not the whole test set."""
        whose = f"lm-eval {package_version('lm-eval')}, {_lm_spec.versions(self._tree())}"
        loose = self.folder is None and self.test_path is None and self.revision is None
        kept = (
            ("the dataset comes from the hub without a `revision`, so it may change under this name",) if loose else ()
        )
        return (*_splits.subset_notes(self.limit, self.dev), whose, *kept)

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Log-probabilities where texts are scored; raw text is continued unless a chat template is in use."""
        kinds = {str({**leaf.spec(), **self.config}.get("output_type")) for leaf in self._tree().leaves()}
        found: set[Capability] = {"logprobs"} if kinds - {_lm_task.GENERATE} else set()
        if _lm_task.GENERATE in kinds:
            found.add("generate" if self.chat_template else "continue")
        return {"model": frozenset(found)}

    def gold(self, item: EvalItem) -> Answer | None:
        """The answer that must earn full marks: the task's own target as text, or as the certain continuation."""
        return _lm_ask.gold(item)

    def empty(self, item: EvalItem) -> Answer:
        """The answer of a model that says nothing: empty texts, or the right continuation as the least likely."""
        return _lm_ask.empty(item) or super().empty(item)

    def misfit(self, item: EvalItem, answer: Answer) -> str | None:
        """Why what is given cannot be an answer to the item; None where it can."""
        return _lm_ask.misfit(item, answer)

    def _called(self) -> str:
        return ", ".join(self.task)

    def _tree(self) -> _lm_spec.Group:
        found = _lm_spec.tree(self.task)
        if len(found.leaves()) > 1 and self.test_path is not None:
            raise UserError(
                f"test_path holds the rows of one task, but {self._called()} are {len(found.leaves())}: name a "
                "`folder` with <task>/<split>.jsonl for each"
            )
        return found

    def _measured(self) -> list[_lm_metrics.Measured]:
        return _lm_metrics.shared(self._tree().leaves(), self.config)

    def _files(self, leaf: _lm_spec.Leaf) -> Mapping[str, Sequence[Any]]:
        return _lm_data.split_files(str(self.folder), leaf.name, {**leaf.spec(), **self.config})

    def _documents(self, split: str) -> list[EvalItem]:
        prompting = _lm_task.Prompting(
            chat=self.chat_template,
            multiturn=self.multiturn,
            system=self.system,
            limit=self.limit,
            seed=self.fewshot_seed,
        )
        found: list[EvalItem] = []
        mark = self.fingerprint(split)
        for leaf in self._tree().leaves():
            made = _lm_task.documents(_built(self.model_dump_json(), leaf.name, split, mark), prompting)
            found += [_lm_ask.item_of(leaf.name, split, document) for document in made]
        return found

    def _source(self, leaf: _lm_spec.Leaf, split: str) -> _lm_build.Source:
        common: dict[str, Any] = {"leaf": leaf, "config": self.config, "fewshot": self.fewshot}
        if self.folder is not None:
            return _lm_build.Source(**common, splits=_lm_data.read(self._files(leaf)))
        test = datafile.rows(self.test_path, "test_path") if self.test_path else None
        train = datafile.rows(self.train_path, "train_path") if self.train_path else None
        if split == "dev" and self.dev_rows and train is not None:
            test, train = self._apart(train)
        return _lm_build.Source(**common, test=test, train=train, revision=self.revision)

    def _apart(self, train: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The dev rows of the train file, and the rest."""
        if any(self.dev_prompt not in row for row in train):
            raise UserError(
                f"{self.train_path} has rows without {self.dev_prompt!r}, the column that `dev_prompt` names"
            )
        chosen = withheld((str(row[self.dev_prompt]) for row in train), self.dev_rows, self.dev_seed)
        dev = [row for row in train if str(row[self.dev_prompt]) in chosen]
        return dev, [row for row in train if str(row[self.dev_prompt]) not in chosen]


@lru_cache(maxsize=128)
def _built(suite: str, leaf: str, split: str, fingerprint: str) -> Any:
    """The object of one task of a suite (as JSON) and split; the fingerprint makes changed data another task."""
    options = LMEval.model_validate_json(suite)
    found = next(one for one in options._tree().leaves() if one.name == leaf)  # noqa: SLF001  the suite's own cache
    return _lm_build.build(options._source(found, split))  # noqa: SLF001


@lru_cache(maxsize=4)
def _items(suite: str, split: str, fingerprint: str) -> tuple[EvalItem, ...]:
    return tuple(LMEval.model_validate_json(suite)._documents(split))  # noqa: SLF001  the suite's own cache
