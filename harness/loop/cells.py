"""Cells and their iterations: what an experiment planned, by stage key, as planner, grid file and analysis share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One iteration of a cell: its stages in order, the model it ends with, answers and grades by suite and split."""

    iteration: int
    stages: tuple[str, ...]
    train: tuple[str, ...]
    model: str | None = None
    answers: Mapping[str, Mapping[str, str]]
    grades: Mapping[str, Mapping[str, str]]
    steps: Mapping[str, str] = field(default_factory=dict)
    """Step name to stage key, in the order of the recipe."""
    leaks: tuple[str, ...] = ()
    """Checks of all rows that the model was trained on, in this iteration and in those that it started from."""

    def stage_keys(self) -> Iterator[str]:
        """Every stage that this iteration needs, each once."""
        evaluation = (
            key for kind in (self.answers, self.grades) for splits in kind.values() for key in splits.values()
        )
        yield from dict.fromkeys((*self.stages, *self.train, *evaluation))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Turn:
        """A turn of the grid file; one that an older version wrote lacks the later fields."""
        lists: dict[str, Any] = {name: tuple(raw.get(name) or ()) for name in ("stages", "train", "leaks")}
        known = {name: raw[name] for name in ("iteration", "model", "answers", "grades", "steps") if name in raw}
        return cls(**known, **lists)

    def to_json(self) -> dict[str, Any]:
        """The turn as JSON values."""
        return asdict(self) | {name: list(getattr(self, name)) for name in ("stages", "train", "leaks")}


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
        """Unique in the grid: recipe, student and seeds."""
        tail = f"/d{self.data_seed}" if self.data_seed else ""
        return f"{self.recipe}/{self.student}/s{self.seed}{tail}"

    @property
    def last(self) -> Turn:
        """The iteration that claims are made about."""
        return self.turns[-1]

    def stage_keys(self) -> Iterator[str]:
        """Every stage of the cell, each once."""
        yield from dict.fromkeys(key for turn in self.turns for key in turn.stage_keys())

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Cell:
        """A cell of the grid file."""
        place = {name: raw[name] for name in ("recipe", "student", "seed", "data_seed")}
        return cls(**place, turns=tuple(Turn.from_json(turn) for turn in raw["iterations"]))

    def to_json(self) -> dict[str, Any]:
        """The cell as JSON values."""
        place = {name: getattr(self, name) for name in ("name", "recipe", "student", "seed", "data_seed")}
        return place | {"iterations": [turn.to_json() for turn in self.turns]}
