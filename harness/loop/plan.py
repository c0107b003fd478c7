"""Turns an experiment into its stages: a graph in which every stage has its key before anything runs.

A cell is one recipe, student, training seed and data seed. Stages with equal keys are one stage, so whatever recipes,
cells and experiments share runs once. Iteration 0 is the untuned student, evaluated once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.config.model import Experiment
from harness.loop.cellplan import CellPlanner
from harness.loop.cells import Cell, Turn
from harness.loop.planner import Evaluation, Planner, judge_of
from harness.loop.stage import Stage
from harness.records.hashing import sha256

__all__ = ["Cell", "Plan", "Turn", "judge_of", "plan"]


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
    """The plan of an experiment. Reads data files (to hash them) but runs nothing."""
    planner = Planner(experiment)
    untuned = {student: _untuned(planner, student) for student in experiment.students}
    cells = tuple(_cells(planner))
    return Plan(experiment=experiment, stages=planner.stages, cells=cells, untuned=untuned)


def _untuned(planner: Planner, student: str) -> Turn:
    evaluation = Evaluation(planner)
    evaluation.add(planner.roles.fixed(student), ("test",), f"untuned {student}", 0)
    return evaluation.turn(iteration=0, stages=(), train=(), model=None)


def _cells(planner: Planner) -> Iterator[Cell]:
    e = planner.experiment
    for recipe in e.recipes:
        for student in e.students:
            for data_seed in e.data_seeds:
                for seed in e.seeds:
                    turns = tuple(CellPlanner(planner, recipe, student, seed, data_seed).turns())
                    yield Cell(recipe=recipe.name, student=student, seed=seed, data_seed=data_seed, turns=turns)
