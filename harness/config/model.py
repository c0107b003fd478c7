"""The typed, frozen form of a configuration: what every other part of loopbench reads.

What YAML states directly is a pydantic model (unknown keys refused); what is put together from several files is a
frozen dataclass. Block options are instances of the blocks' own classes, which come from the registry that is handed
to `harness.config.load`: this package never imports a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field

from harness.config.base import NAME, BlockLike, Registry, Strict
from harness.config.claims import Claim
from harness.config.dataset import Dataset, Withhold
from harness.config.leaks import Leaks
from harness.config.modelspec import Model, Scratch
from harness.config.recipe import VERBS, LoopPolicy, Recipe, Source, Step, Verb, Window
from harness.config.sentinels import Sentinels
from harness.records.values import Count, Share


@dataclass(frozen=True, kw_only=True)
class SuiteRef:
    """A suite: its validated block, and the judge block that grades it (None: needs none)."""

    name: str
    block_name: str
    block: Any
    judge: Any | None = None
    path: str | None = None
    written: Mapping[str, Any] = field(default_factory=dict)
    """Options that are file paths, as the file said them, for records."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Training options of the whole experiment, already merged into every finetune block that has such a field."""

    options: Mapping[str, Any] = field(default_factory=dict)


class Budget(Strict):
    """Equalises arms: every cell trains on this many tokens, all its trainings together (see `config.budget`)."""

    train_tokens: Count | None = None


class Limits(Strict):
    """Stops before more is spent: US dollars of served models, hours that runs of the plan took."""

    usd: Annotated[float, Field(gt=0)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None


class Gate(Strict):
    """What `gate` compares with, and the loss per metric that is still acceptable (in the metric's unit)."""

    baseline: str | None = None
    margin: Annotated[Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole experiment, resolved and checked. `resolved` is the same as plain JSON, without any secret."""

    name: str
    path: str | None
    models: Mapping[str, Model]
    data: Mapping[str, Dataset]
    recipes: tuple[Recipe, ...]
    suites: tuple[SuiteRef, ...]
    students: tuple[str, ...] = ("student",)
    seeds: tuple[int, ...] = (0,)
    data_seeds: tuple[int, ...] = (0,)
    baseline: str | None = None
    train: Train = field(default_factory=Train)
    budget: Budget | None = None
    limits: Limits | None = None
    gate: Gate | None = None
    leaks: Leaks = field(default_factory=Leaks)
    sentinels: Sentinels = field(default_factory=Sentinels)
    claims: tuple[Claim, ...] = ()
    resolved: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, name: str) -> Recipe:
        """The recipe of a name.

        Raises:
            KeyError: there is none.
        """
        return _by_name(self.recipes, name)

    def suite(self, name: str) -> SuiteRef:
        """The suite of a name.

        Raises:
            KeyError: there is none.
        """
        return _by_name(self.suites, name)


_Named = TypeVar("_Named", Recipe, SuiteRef)


def _by_name(things: Iterable[_Named], name: str) -> _Named:
    for thing in things:
        if thing.name == name:
            return thing
    raise KeyError(name)


__all__ = [
    "NAME", "VERBS", "BlockLike", "Budget", "Dataset", "Experiment", "Gate", "Limits", "LoopPolicy", "Model", "Recipe",
    "Registry", "Scratch", "Share", "Source", "Step", "Strict", "SuiteRef", "Train", "Verb", "Window", "Withhold",
]  # fmt: skip
