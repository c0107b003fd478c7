"""Which ready stages go first: those with the most work behind them; answers of one model go together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.loop.stage import Stage

WEIGHT = {"finetune": 10.0, "synthesize": 6.0, "score": 3.0, "answer": 3.0, "grade": 0.5}
"""Rough relative cost of actions, used only to start long chains first."""


def model_of(stage: Stage) -> str | None:
    """The model that a stage opens, for keeping stages on one model together."""
    for binding in stage.models.values():
        return binding.stage or binding.spec.revision
    return None


def together(first: str, ready: Sequence[str], stages: Mapping[str, Stage]) -> list[str]:
    """A ready stage with those that are done in one go with it: all answers of one model are one stream."""
    stage = stages[first]
    if stage.action != "answer":
        return [first]
    return [key for key in ready if stages[key].action == "answer" and stages[key].models == stage.models]


def children_of(stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {key: [] for key in stages}
    for key, stage in stages.items():
        for parent in stage.parents:
            children[parent].append(key)
    return children


def ranks(stages: Mapping[str, Stage], children: Mapping[str, list[str]]) -> dict[str, float]:
    """Length of the longest chain of work that starts with a stage; parents come before children in `stages`."""
    rank: dict[str, float] = {}
    for key in reversed(list(stages)):
        rank[key] = WEIGHT.get(stages[key].action, 1.0) + max((rank[child] for child in children[key]), default=0.0)
    # What a check of training rows finds should be known before a training has cost anything; it takes seconds.
    return {key: math.inf if stages[key].action == "leaks" else value for key, value in rank.items()}
