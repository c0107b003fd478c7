"""What all cells of a plan share: its stages, sources and models, and the evaluation of a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from harness.blocks.prompts import load_pack
from harness.config.model import Experiment, SuiteRef
from harness.loop.capable import check_capable
from harness.loop.cells import Turn
from harness.loop.leaks import Check, check_of
from harness.loop.models import Roles
from harness.loop.stage import Binding, Stage
from harness.records.sources import fingerprint


class Planner:
    """Stages by key, as they are found to be needed."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.stages: dict[str, Stage] = {}
        self.sources: dict[str, Stage] = {}
        self.items: dict[tuple[str, str], str] = {}
        self.roles = Roles(experiment, self.source, self.add)
        self.checked: dict[str, tuple[str, ...]] = {}
        """Model stage to the checks of all rows behind its weights."""

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

    @cached_property
    def check(self) -> tuple[Check, dict[str, Any]] | None:
        """What every training row is compared with, and what identifies it."""
        suites = self.experiment.suites
        content = {s.name: {split: self.content(s, split) for split in s.block.splits()} for s in suites}
        return check_of(self.experiment, content)

    def content(self, suite: SuiteRef, split: str) -> str:
        """The identity of a suite's items, computed once."""
        if (suite.name, split) not in self.items:
            self.items[suite.name, split] = suite.block.fingerprint(split)
        return self.items[suite.name, split]


class Evaluation:
    """Collects the answer and grade stages of one model."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.answers: dict[str, dict[str, str]] = {}
        self.grades: dict[str, dict[str, str]] = {}

    def add(self, model: Binding, splits: tuple[str, ...], who: str, iteration: int) -> None:
        for suite in self.planner.experiment.suites:
            for split in splits:
                if split in suite.block.splits():
                    self.one(suite, split, model, f"{who} on {suite.name} {split}")

    def one(self, suite: SuiteRef, split: str, model: Binding, label: str) -> None:
        """Adds one suite's answers and grades."""
        planner, block = self.planner, suite.block
        common: dict[str, Any] = {"block": block, "split": split, "suite": suite.name}
        check_capable(block, {"model": ("student", model)}, suite.path or suite.name)
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
            check_capable(judge, {"judge": ("judge", models["judge"])}, suite.path or suite.name)
        content = dict(content) | packs(models)
        roles = {"judge": "judge"} if models else {}
        return Stage(
            action="grade",
            label=label,
            answers=answer.key,
            models=models,
            roles=roles,
            judge=judge,
            fingerprint=content,
            data=self.planner.experiment.sentinels if models else None,
            **common,
        )

    def turn(self, **fields: Any) -> Turn:
        return Turn(answers=self.answers, grades=self.grades, **fields)


def judge_of(suite: SuiteRef) -> Any | None:
    """The judge block that grades a suite; None where it grades by itself, whatever the experiment binds."""
    return suite.judge if suite.block.needs_judge() else None


def packs(models: Mapping[str, Binding]) -> dict[str, str]:
    """The identity of the prompts that models are asked with."""
    return {f"prompts.{role}": load_pack(b.spec.prompt_pack).digest for role, b in sorted(models.items())}
