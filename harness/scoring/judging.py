"""Which judge grades, and the grading itself: as a stage of the loop, in this process.

Where a model is asked, the stage lies in the user's own store, so its shards and verdicts survive a kill and a second
scoring of the same answers asks nothing. Everything else is graded in a folder that is thrown away.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from harness.blocks import registry
from harness.blocks.kinds import Answer, EvalItem, Grade, Judge, Suite
from harness.blocks.prompts import load_pack
from harness.config.model import Model, SuiteRef
from harness.config.suites import MODEL_JUDGE
from harness.engines.open import ready
from harness.errors import UserError
from harness.evaluate.pocket import Pocket
from harness.judges.oracle import Oracle
from harness.judges.replay import Replay
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.models import binding_of
from harness.loop.stage import Binding, Stage
from harness.loop.work import Job, run
from harness.records import datafile, evaltables
from harness.records.hashing import sha256
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.store.locks import lease

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """The judge of a suite and, where it asks one, the model. Both None for a suite that grades by itself."""

    judge: Judge | None = None
    model: Binding | None = None

    @property
    def label(self) -> str:
        """What stands beside the scores."""
        return "" if self.judge is None else self.judge.label

    def facts(self) -> dict[str, Any] | None:
        """All that makes a judge the same judge."""
        judge, spec = self.judge, self.model.spec if self.model is not None else None
        if judge is None:
            return None
        about = {
            "block": judge.name,
            "version": judge.version,
            "label": judge.label,
            "stand_in": judge.stand_in,
            "options": judge.identity_options(),
        }
        if spec is None:
            return about | {"model": None}
        pack = load_pack(spec.prompt_pack).digest
        model = {"model": spec.name, "revision": spec.revision, "engine": spec.engine, "dtype": spec.dtype}
        return about | model | {"prompts": pack}


@dataclass(frozen=True, kw_only=True)
class Graded:
    """The grades of one run, and the figures that the suite itself makes of them."""

    grades: tuple[Grade, ...]
    summary: Mapping[str, float | None]
    cost: Mapping[str, int]


def judging(ref: SuiteRef, model: Model | None, verdicts: str | None) -> Judging:
    """The judge that grades: recorded verdicts, else the one that is named, else the suite's own.

    Raises:
        UserError: a suite that needs a judge and has none, or one that takes none and is given one.
    """
    suite: Suite = ref.block
    if not suite.needs_judge():
        if model is not None or verdicts is not None:
            raise UserError(f"the suite {ref.name} grades by itself: it takes neither --judge nor --verdicts")
        return Judging()
    if verdicts is not None:
        if model is not None:
            raise UserError("--verdicts replays recorded verdicts, so no judge is asked: drop --judge or --verdicts")
        return Judging(judge=replay_of(suite, verdicts))
    judge = _named(ref, model)
    if judge is None or (judge.asks_model and (model is None or model.judge is not None)):
        raise UserError(
            f"the suite {ref.name} is graded by a judge, and none is named: replay recorded verdicts with "
            "`--verdicts FILE`, name a model with `--judge FOLDER` (or a YAML file, for a served one), or take "
            "`--judge stand_in` for a dry run whose figures say nothing"
        )
    return Judging(judge=judge, model=_bound(model) if model is not None and judge.asks_model else None)


def _bound(model: Model) -> Binding:
    """The judge model, checked before anything is asked: its folder, or its server's key."""
    binding = binding_of(model)
    ready(binding.spec)
    return binding


def _named(ref: SuiteRef, model: Model | None) -> Judge | None:
    """A programmatic judge that is named, else the suite's own, else the usual one for a model."""
    found: Judge | None = ref.judge
    if model is not None and model.judge is not None:
        found = cast(Judge, registry.get("judge", model.judge).model_validate(dict(model.options)))
    elif found is None and model is not None:
        found = cast(Judge, registry.get("judge", MODEL_JUDGE)())
    elif found is None and isinstance(ref.block, Pocket):
        found = Oracle()
    return found


def grade(
    ref: SuiteRef,
    split: str,
    answers: Sequence[Answer],
    by: Judging,
    *,
    label: str,
    home: Home,
    threads: int = 1,
    progress: Progress = lambda done, total: None,
) -> Graded:
    """Grades answers that are aligned with the suite's items.

    Raises:
        StageFailed: the judge could not be asked; verdicts that it gave are kept, the same command goes on.
    """
    with _store(by, home) as store:
        stage = _stage(ref, split, _put(store, answers), by, label)
        if not store.done(stage.kind, stage.key):
            _run(store, stage, threads, progress)
        folder = store.open(stage.kind, stage.key)
        manifest = store.manifest(stage.kind, stage.key)
        rows = evaltables.read_grades(folder / "grades.parquet")
    grades = tuple(Grade(**row) for row in rows)
    return Graded(grades=grades, summary=manifest.get("report") or {}, cost=Counter(manifest.get("cost") or {}))


@contextmanager
def _store(by: Judging, home: Home) -> Iterator[Store]:
    if by.model is not None:
        yield Store(home.prepare())
        return
    with tempfile.TemporaryDirectory(prefix="loopbench-") as folder:
        yield Store(Home(Path(folder)).prepare())


def _put(store: Store, answers: Sequence[Answer]) -> str:
    """Puts answers into the store under the hash of their content; the key."""
    key = sha256(["given answers", [asdict(answer) for answer in answers]])
    if not store.done("answers", key):
        work = store.work("answers", key)
        evaltables.write_answers(work / "answers.parquet", answers)
        store.commit("answers", key, ("answers.parquet",), {"label": "given answers", "rows": len(answers)})
    return key


def _stage(ref: SuiteRef, split: str, answers: str, by: Judging, label: str) -> Stage:
    models = {"judge": by.model} if by.model is not None else {}
    packs = {f"prompts.{role}": load_pack(b.spec.prompt_pack).digest for role, b in models.items()}
    return Stage(
        action="grade",
        label=f"grade {label} on {ref.name} {split}",
        block=ref.block,
        split=split,
        suite=ref.name,
        answers=answers,
        models=models,
        roles={role: role for role in models},
        judge=by.judge,
        fingerprint={"items": ref.block.fingerprint(split)} | packs,
    )


def _run(store: Store, stage: Stage, threads: int, progress: Progress) -> None:
    with lease(store.home.locks, stage.key, stage.label):
        engines = Engines(store, threads)
        try:
            keep, result = run(Job(stage, store, engines, Timer(), progress, threads=threads))
            store.commit(stage.kind, stage.key, keep, result | {"label": stage.label})
        finally:
            engines.close()


def replay_of(suite: Suite, path: str) -> Replay:
    """Recorded verdicts, as `--verdicts` reads them.

    Verdicts against another text count where that text is by the very model that wrote the suite's references: a pair
    is known by the names of its two models (AlpacaEval 1's published verdicts need it). Whoever uses this says so, by
    `other_references`.
    """
    if not any(row.get("generator_1") for row in datafile.rows(path, "path")[:1]):
        return Replay(path=path)
    recorded = {row.get("generator_1") for row in datafile.rows(path, "path")}
    return Replay(path=path, any_reference=len(recorded) == 1 and recorded == suite.opponents())


def recorded_judges(judge: Judge | None) -> frozenset[str]:
    """The judges that recorded verdicts name (alpaca-eval's `annotator`, else `judge`); none where nothing is named."""
    if not isinstance(judge, Replay):
        return frozenset()
    named = [row.get("annotator") or row.get("judge") for row in datafile.rows(judge.path, "path")]
    # FastChat's is a list: the model and the prompt, which differs by category.
    return frozenset(str(one[0] if isinstance(one, list) else one) for one in named if one)


def other_references(judge: Replay, items: Sequence[EvalItem], answers: Sequence[Answer]) -> int:
    """How many of these answers have a recorded verdict, but only against another text than their reference."""
    same: dict[tuple[str, str], bool] = {}
    references = {item.turns[0]: item.reference[:1] for item in items}
    for row in datafile.rows(judge.path, "path"):
        if "output_1" in row:
            pair = (row["instruction"], row["output_2"])
            same[pair] = same.get(pair, False) or (row["output_1"],) == references.get(row["instruction"])
    given = zip(items, answers, strict=True)
    return sum(same.get((item.turns[0], answer.outputs[0]), True) is False for item, answer in given if answer.outputs)
