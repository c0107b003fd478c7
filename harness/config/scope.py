"""What the steps of one recipe may refer to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.config.document import Node
from harness.config.model import Model


@dataclass
class Scope:
    """What the steps of one recipe may refer to. `later` are `as` names of the whole recipe, `known` those so far."""

    data: Collection[str]
    raw: Collection[str]
    """Those of `data` whose rows are no examples: only a block that asks for them by a role reads them."""
    models: Mapping[str, Model]
    students: Collection[str]
    train: Node | None
    iterations: int
    all_names: dict[str, int]
    known: set[str] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    """`as` names of finetune steps so far: their models can be used as roles."""
    only: dict[str, str] = field(default_factory=dict)
    """`as` names of steps that do not run in each iteration: `first` or `later`."""
    overridden: dict[str, dict[str, Any]] = field(default_factory=dict)
