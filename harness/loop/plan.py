"""Turns an experiment into its stages: a graph in which every stage has its key before anything runs.

A cell is one recipe, student, training seed and data seed. Stages with equal keys are one stage, so whatever recipes,
cells and experiments share runs once. Iteration 0 is the untuned student, evaluated once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.blocks.prompts import load_pack
from harness.config.model import Experiment, Recipe, Source, Step, SuiteRef, Window
from harness.errors import UserError
from harness.loop.models import Roles
from harness.loop.stage import Binding, Input, Stage
from harness.records.hashing import sha256
from harness.records.sources import fingerprint

Rows = tuple[Input, ...]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One iteration of a cell: its stages in order, the model it ends with, answers and grades by suite and split."""

    iteration: int
    stages: tuple[str, ...]
    train: tuple[str, ...]
    model: str | None
    answers: Mapping[str, Mapping[str, str]]
    grades: Mapping[str, Mapping[str, str]]
    steps: Mapping[str, str] = field(default_factory=dict)
    """Step name to stage key."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the grid."""

    recipe: str
    student: str
    seed: int
    data_seed: int
    turns: tuple[Turn, ...]

    @property
    def name(self) -> str:
        tail = f"/d{self.data_seed}" if self.data_seed else ""
        return f"{self.recipe}/{self.student}/s{self.seed}{tail}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All stages by key, parents before children, and the cells that share them."""

    experiment: Experiment
    stages: Mapping[str, Stage]
    cells: tuple[Cell, ...]
    untuned: Mapping[str, Turn]

    @property
    def key(self) -> str:
        return sha256(sorted(self.stages))


def plan(experiment: Experiment) -> Plan:
    """The plan of an experiment. Reads data files (to hash them) but runs nothing.

    Raises:
        UserError: the experiment sets `budget` or `limits`, which nothing enforces in this version.
    """
    unmet = [name for name in ("budget", "limits") if getattr(experiment, name) is not None]
    if unmet:
        raise UserError(
            f"{experiment.path or experiment.name}: {' and '.join(unmet)} cannot be kept by this version, and a limit "
            "that is only written down would be worse than none: take it out"
        )
    return _Planner(experiment).plan()


class _Planner:
    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.stages: dict[str, Stage] = {}
        self.sources: dict[str, Stage] = {}
        self.items: dict[tuple[str, str], str] = {}
        self.roles = Roles(experiment, self.source, self.add)

    def plan(self) -> Plan:
        untuned = {student: self._untuned(student) for student in self.experiment.students}
        cells = tuple(self._cells())
        return Plan(experiment=self.experiment, stages=self.stages, cells=cells, untuned=untuned)

    def _untuned(self, student: str) -> Turn:
        evaluation = _Evaluation(self)
        evaluation.add(self.roles.fixed(student), ("test",), f"untuned {student}", 0)
        return evaluation.turn(iteration=0, stages=(), train=(), model=None)

    def _cells(self) -> Iterator[Cell]:
        e = self.experiment
        for recipe in e.recipes:
            for student in e.students:
                for data_seed in e.data_seeds:
                    for seed in e.seeds:
                        turns = tuple(_CellPlanner(self, recipe, student, seed, data_seed).turns())
                        yield Cell(recipe=recipe.name, student=student, seed=seed, data_seed=data_seed, turns=turns)

    def add(self, stage: Stage) -> Stage:
        return self.stages.setdefault(stage.key, stage)

    def source(self, name: str) -> Stage:
        """The stage that reads a data source."""
        if name not in self.sources:
            dataset = self.experiment.data[name]
            stage = Stage(
                action="source", label=f"data {dataset.name}", data=dataset, fingerprint={"data": fingerprint(dataset)}
            )
            self.sources[name] = self.add(stage)
        return self.sources[name]

    def content(self, suite: SuiteRef, split: str) -> str:
        """The identity of a suite's items, computed once."""
        if (suite.name, split) not in self.items:
            self.items[suite.name, split] = suite.block.fingerprint(split)
        return self.items[suite.name, split]


class _Evaluation:
    """Collects the answer and grade stages of one model."""

    def __init__(self, planner: _Planner) -> None:
        self.planner = planner
        self.answers: dict[str, dict[str, str]] = {}
        self.grades: dict[str, dict[str, str]] = {}

    def add(self, model: Binding, splits: tuple[str, ...], who: str, iteration: int) -> None:
        for suite in self.planner.experiment.suites:
            for split in splits:
                if split in suite.block.splits():
                    self._add(suite, split, model, f"{who} on {suite.name} {split}", iteration)

    def _add(self, suite: SuiteRef, split: str, model: Binding, label: str, iteration: int) -> None:
        planner, block = self.planner, suite.block
        common: dict[str, Any] = {"block": block, "split": split, "suite": suite.name}
        content = {"items": planner.content(suite, split)}
        answer = planner.add(
            Stage(
                action="answer",
                label=f"answer {label}",
                models={"model": model},
                roles={"model": "model"},
                fingerprint=content,
                **common,
            )
        )
        grade = planner.add(self._grade(suite, answer, f"grade {label}", content, common))
        self.answers.setdefault(suite.name, {})[split] = answer.key
        self.grades.setdefault(suite.name, {})[split] = grade.key

    def _grade(
        self, suite: SuiteRef, answer: Stage, label: str, content: Mapping[str, Any], common: dict[str, Any]
    ) -> Stage:
        models: dict[str, Binding] = {}
        judge = judge_of(suite)
        if judge is not None and judge.asks_model:
            models["judge"] = self.planner.roles.fixed("judge")
        content = dict(content) | _packs(models)
        roles = {"judge": "judge"} if models else {}
        return Stage(
            action="grade",
            label=label,
            answers=answer.key,
            models=models,
            roles=roles,
            judge=judge,
            fingerprint=content,
            **common,
        )

    def turn(self, **fields: Any) -> Turn:
        return Turn(answers=self.answers, grades=self.grades, **fields)


class _CellPlanner:
    """Plans the iterations of one cell, step by step."""

    def __init__(self, planner: _Planner, recipe: Recipe, student: str, seed: int, data_seed: int) -> None:
        self.planner, self.recipe, self.student = planner, recipe, student
        self.seed, self.data_seed = seed, data_seed
        self.rows: dict[str, dict[int, Rows]] = {}
        """Step or `as` name to the rows it gave in each iteration."""
        self.trained_on: dict[int, dict[int, Rows]] = {}
        """Position of a finetune step to the rows that flowed into it in each iteration."""
        self.dev: tuple[str, ...] = ()
        steps = recipe.steps
        self.only_selects = not any(s.verb == "synthesize" and s.block_name != "pool" for s in steps)

    def turns(self) -> Iterator[Turn]:
        start = self.planner.roles.fixed(self.student)
        for iteration in range(1, self.recipe.loop.iterations + 1):
            turn, current = self._turn(iteration, start)
            yield turn
            if self.recipe.loop.start_from == "previous":
                start = current

    def _turn(self, iteration: int, start: Binding) -> tuple[Turn, Binding]:
        models = {"start": start, "current": start, "student": self.planner.roles.fixed(self.student)}
        flow: Rows = self._pool(iteration)
        keys: list[str] = []
        train: list[str] = []
        names: dict[str, str] = {}
        for position, step in enumerate(self.recipe.steps):
            rows = flow if step.from_ is None else self._from(step.from_, iteration)
            if step.verb == "finetune":
                rows = self._window(position, iteration, rows) if step.from_ is None else rows
            stage = self.planner.add(self._stage(step, iteration, rows, models))
            keys.append(stage.key)
            names[step.name] = stage.key
            if step.verb == "finetune":
                train.append(stage.key)
                models["current"] = models[step.name] = self.planner.roles.trained(
                    stage, stage.models[stage.roles["start"]], self.recipe.name
                )
            else:
                flow = (Input(key=stage.key),)
                for name in {step.name, step.as_ or step.name}:
                    self.rows.setdefault(name, {})[iteration] = flow
        return self._evaluated(iteration, keys, train, names, models["current"]), models["current"]

    def _evaluated(
        self, iteration: int, keys: list[str], train: list[str], names: dict[str, str], model: Binding
    ) -> Turn:
        evaluation = _Evaluation(self.planner)
        who = f"{self.recipe.name} s{self.seed} i{iteration}"
        reads_dev = iteration < self.recipe.loop.iterations and any(
            s.verb == "synthesize" and s.block(iteration + 1).uses_feedback() for s in self.recipe.steps
        )
        evaluation.add(model, ("dev", "test") if reads_dev else ("test",), who, iteration)
        steers = {s.name for s in self.planner.experiment.suites if s.block.metrics()[0].higher_is_better}
        self.dev = tuple(g["dev"] for suite, g in evaluation.grades.items() if "dev" in g and suite in steers)
        last = train[-1] if train else None
        return evaluation.turn(iteration=iteration, stages=tuple(keys), train=tuple(train), model=last, steps=names)

    def _stage(self, step: Step, iteration: int, rows: Rows, models: dict[str, Binding]) -> Stage:
        block = step.block(iteration)
        roles: dict[str, str] = dict(block.roles())
        used = {role: models[role] if role in models else self.planner.roles.fixed(role) for role in roles.values()}
        feedback = self.dev if step.verb == "synthesize" and block.uses_feedback() else ()
        reads = step.verb != "synthesize" or block.reads_rows
        seed = None if not block.is_random() else self.seed if step.verb == "finetune" else self.data_seed
        return Stage(
            action=step.verb,
            label=f"{self.recipe.name} i{iteration} {step.name}",
            block=block,
            inputs=rows if reads else (),
            models=used,
            roles=roles,
            feedback=feedback,
            iteration=iteration if block.is_random() and step.verb != "finetune" else None,
            seed=seed,
            fingerprint=_packs(used) if block.reads_prompts else {},
        )

    def _pool(self, iteration: int) -> Rows:
        """The pool; for a recipe that only selects a slice per iteration, or its second turn would repeat the first."""
        if "pool" not in self.planner.experiment.data:
            return ()
        source = Input(key=self.planner.source("pool").key, kind="data", seed=self.data_seed)
        iterations = self.recipe.loop.iterations
        if self.only_selects and iterations > 1:
            return (replace(source, slice=(iteration - 1, iterations)),)
        return (source,)

    def _from(self, sources: tuple[Source, ...], iteration: int) -> Rows:
        return tuple(row for source in sources for row in self._one(source, iteration))

    def _one(self, source: Source, iteration: int) -> Rows:
        if source.name not in self.rows:
            rows = self._pool(iteration) if source.name == "pool" else self._other(source.name)
        else:
            given = self.rows[source.name]
            wanted = {"same": [iteration], "previous": [iteration - 1], "all": list(range(1, iteration + 1))}[
                source.when
            ]
            rows = tuple(row for i in wanted for row in given.get(i, ()))
        if source.share is None:
            return rows
        return tuple(replace(row, share=source.share, seed=self.data_seed) for row in rows)

    def _other(self, name: str) -> Rows:
        return (Input(key=self.planner.source(name).key, kind="data", seed=self.data_seed),)

    def _window(self, position: int, iteration: int, rows: Rows) -> Rows:
        """The rows of the iterations that `loop.data` says train together."""
        given = self.trained_on.setdefault(position, {})
        given[iteration] = rows
        policy = self.recipe.loop.data
        span = policy.window if isinstance(policy, Window) else iteration if policy == "accumulate" else 1
        return tuple(row for i in range(max(1, iteration - span + 1), iteration + 1) for row in given[i])


def judge_of(suite: SuiteRef) -> Any | None:
    """The judge block that grades a suite; None where it grades by itself, whatever the experiment binds."""
    return suite.judge if suite.block.needs_judge() else None


def _packs(models: Mapping[str, Binding]) -> dict[str, str]:
    return {f"prompts.{role}": load_pack(b.spec.prompt_pack).digest for role, b in sorted(models.items())}
