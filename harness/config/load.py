"""Loads an experiment: finds its files, applies `--set`, validates everything, and reports all mistakes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harness.config.addresses import (
    Override,
    put_into,
    put_into_recipe,
    read_overrides,
)
from harness.config.budget import equalise
from harness.config.built import build_recipes, keys_of, setting_of, unreadable
from harness.config.checks import fill, nearest
from harness.config.claims import read_claims
from harness.config.crosschecks import check_experiment
from harness.config.datasets import read_dataset
from harness.config.document import Document, Node, Problems, read
from harness.config.dump import plain
from harness.config.leaks import read_leaks
from harness.config.model import (
    Budget,
    Dataset,
    Experiment,
    Gate,
    Limits,
    Model,
    Recipe,
    Registry,
    Strict,
    SuiteRef,
    Train,
)
from harness.config.models import read_models
from harness.config.places import find, unknown
from harness.config.recipes import recipe_nodes
from harness.config.sentinels import Sentinels
from harness.config.suites import build_suite, suite_node
from harness.errors import LoopbenchError

Whole = Annotated[int, Field(ge=0)]
Seeds = Annotated[int, Field(ge=1)] | Annotated[tuple[Whole, ...], Field(min_length=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class _Head(Strict):
    """The keys of an experiment file; those typed Any are read by modules of their own."""

    experiment: str
    description: str = ""
    models: Any
    data: Any = None
    recipes: Any
    suites: Any
    students: Names | None = None
    seeds: Seeds = 1
    data_seeds: Seeds = 1
    baseline: str | None = None
    train: Any = None
    budget: Budget | None = None
    limits: Limits | None = None
    gate: Gate | None = None
    leaks: Any = None
    sentinels: Sentinels = Sentinels()
    claims: Any = None
    vary: Any = None


def load(path_or_name: str | Path, registry: Registry, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a name or file, with every reference resolved and every option validated.

    Args:
        path_or_name: `quickstart`, or the path of a YAML file.
        registry: gives the block classes; pass the module `harness.blocks.registry`.
        overrides: texts such as `ifd-10.top.keep=5%`, `train.epochs=2` or `seeds=1`, applied before validation.

    Raises:
        ConfigError: every mistake in all files at once, each with file and line where it has one.
    """
    problems = Problems()
    path = find("experiment", str(path_or_name))
    if path is None:
        problems.add(unknown("experiment", str(path_or_name)))
    document = None if path is None else read(path, problems)
    changes = read_overrides(overrides, problems)
    if document is not None and not isinstance(document.data, dict):
        problems.add(
            "an experiment file should hold a mapping with `experiment`, `models`, `recipes`, `suites`", document.top
        )
    elif document is not None:
        experiment = _Loader(document, registry, problems).load(changes)
        problems.stop_if_any()
        if experiment is not None:
            return experiment
    problems.stop_if_any()
    raise LoopbenchError(f"{path_or_name} gave neither an experiment nor a mistake")


@dataclass
class _Loader:
    document: Document
    registry: Registry
    problems: Problems

    def load(self, overrides: Sequence[Override]) -> Experiment | None:
        root = self.document.root()
        here = [change for change in overrides if change.head in _Head.model_fields]
        for change in here:
            put_into(self.document, change, self.problems)
        head = fill(root, _Head, self.problems)
        recipes = self._recipes(root)
        suites = self._suites(root)
        self._apply([change for change in overrides if change not in here], recipes, suites)
        models = self._models(root)
        data = self._data(root)
        students = ("student",) if head is None or head.students is None else head.students
        setting = setting_of(root, models, data, students, self.problems)
        built = build_recipes(root, recipes, setting, self.registry, self.problems)
        judge = models.get("judge") or (unreadable("judge") if "judge" in keys_of(root, "models") else None)
        measured = [
            build_suite(name, node, self.registry, self.problems, judge, judged=True) for name, node in suites.items()
        ]
        if head is None:
            return None
        found = tuple(suite for suite in measured if suite is not None)
        built = list(equalise(built, head.budget, root, self.problems))
        experiment = self._experiment(head, models, data, built, found, students)
        check_experiment(experiment, root, {*recipes, *(recipe.name for recipe in built)}, self.problems)
        return None if len(self.problems) else replace(experiment, resolved=plain(experiment))

    def _recipes(self, root: Node) -> dict[str, Node]:
        listed = root.get("recipes")
        return {} if listed is None else recipe_nodes(listed, self.problems)

    def _suites(self, root: Node) -> dict[str, Node]:
        listed = root.get("suites")
        if listed is None:
            return {}
        if not isinstance(listed.value, list) or not listed.value:
            self.problems.add("suites: should be a list with at least one suite", listed.mark())
            return {}
        found: dict[str, Node] = {}
        for item in listed.values():
            named = suite_node(item, self.problems)
            if named is not None and named[0] in found:
                self.problems.add(f"two suites are named {named[0]!r}; give one of them a `name`", item.mark())
            elif named is not None and not isinstance(named[1].value, dict):
                self.problems.add("a suite file should hold a mapping with `suite`", named[1].mark())
            elif named is not None:
                found[named[0]] = named[1]
        return found

    def _apply(self, changes: Sequence[Override], recipes: Mapping[str, Node], suites: Mapping[str, Node]) -> None:
        for change in changes:
            if change.head in recipes:
                put_into_recipe(recipes[change.head], change.address[1:], change.value, change.mark, self.problems)
            elif change.head in suites and len(change.address) > 1:
                node = suites[change.head]
                put_into(node.doc, Override(change.address[1:], change.value, change.mark), self.problems, node.path)
            else:
                known = [*recipes, *suites, *_Head.model_fields]
                self.problems.add(f"there is no {change.head!r} to set{nearest(change.head, known)}", change.mark)

    def _models(self, root: Node) -> dict[str, Model]:
        node = root.get("models")
        return {} if node is None else read_models(node, self.registry, self.problems)

    def _data(self, root: Node) -> dict[str, Dataset]:
        node = root.get("data")
        if node is None or node.value is None:
            return {}
        if not isinstance(node.value, dict):
            self.problems.add("data: should bind names to datasets, such as {pool: pocket/defects}", node.mark())
            return {}
        read_all = {name: read_dataset(child, self.registry, self.problems, role=name) for name, child in node.items()}
        return {name: dataset for name, dataset in read_all.items() if dataset is not None}

    def _experiment(
        self,
        head: _Head,
        models: Mapping[str, Model],
        data: Mapping[str, Dataset],
        recipes: Sequence[Recipe],
        suites: tuple[SuiteRef, ...],
        students: tuple[str, ...],
    ) -> Experiment:
        return Experiment(
            name=head.experiment,
            path=self.document.top.file,
            models=models,
            data=data,
            recipes=tuple(recipes),
            suites=suites,
            students=students,
            seeds=_seeds(head.seeds),
            data_seeds=_seeds(head.data_seeds),
            baseline=head.baseline,
            train=Train(options=head.train if isinstance(head.train, dict) else {}),
            budget=head.budget,
            limits=head.limits,
            gate=head.gate,
            sentinels=head.sentinels,
            leaks=read_leaks(self.document.root().get("leaks"), self.problems),
            claims=read_claims(self.document.root().get("claims"), self.problems),
        )


def _seeds(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(value)) if isinstance(value, int) else value
