"""The typed form of a recipe: its loop policy, its steps and where their rows come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.config.base import Strict

Verb = Literal["synthesize", "score", "select", "pair", "finetune"]
VERBS: tuple[Verb, ...] = ("synthesize", "score", "select", "pair", "finetune")


class Window(Strict):
    """Train on the selected rows of the last `window` iterations."""

    window: Annotated[int, Field(ge=1)]


class LoopPolicy(Strict):
    """How often the steps run, from which model each turn starts, and which iterations' rows train."""

    iterations: Annotated[int, Field(ge=1)] = 1
    start_from: Literal["student", "previous"] = "student"
    data: Literal["new", "accumulate"] | Window = "new"
    pool: Literal["auto", "whole"] = "auto"
    """What an iteration reads of the pool: all of it, or (auto), where the recipe only selects, a slice of its own."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows that a step reads: a data source or an earlier step's `as` name, of this or earlier iterations.

    `share` is set in mixes only: the share of that source's rows that is taken (1.0 = all).
    """

    name: str
    when: Literal["same", "previous", "all"] = "same"
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a recipe. `blocks` holds one validated instance per iteration (`by_iteration` resolved).

    `from_` is None where the step reads the rows that flow down: `pool` for the first step, else the last step's.
    """

    verb: Verb
    block_name: str
    blocks: tuple[Any, ...]
    as_: str | None = None
    from_: tuple[Source, ...] | None = None
    only: Literal["first", "later"] | None = None
    """The step runs in the first iteration only, or from the second on; None: in each."""
    file: str = ""
    line: int | None = None

    def runs(self, iteration: int) -> bool:
        """True where the step runs in an iteration (from 1 on)."""
        return self.only is None or (self.only == "first") == (iteration == 1)

    @property
    def name(self) -> str:
        """How `--set` and reports address the step: its `as` name, else its block's name."""
        return self.as_ or self.block_name

    def block(self, iteration: int) -> Any:
        """The block of an iteration (from 1 on)."""
        return self.blocks[iteration - 1]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data strategy: ordered steps and the loop policy. `base` differs from `name` for a variation only.

    `train_overrides`: step name -> options in which the recipe departs from the experiment's `train:`.
    """

    name: str
    base: str
    loop: LoopPolicy
    steps: tuple[Step, ...]
    path: str | None = None
    train_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variation: Mapping[str, Any] = field(default_factory=dict)
    pool: str = "pool"
    """The name under `data:` that stands for `pool` in this recipe."""
