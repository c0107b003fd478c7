"""A stage: the unit of caching, scheduling and resume.

A stage is described completely before anything runs. Its key is the SHA-256 of what it will produce from: block,
version, identity options, the keys of its parents, the identity of its models, and seeds only where it is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from harness.blocks.base import Block
from harness.engines.base import ModelSpec
from harness.engines.open import settings
from harness.records.hashing import sha256
from harness.records.templates import RENDERING
from harness.store.artifacts import ArtifactKind

Action = Literal[
    "source", "scratch", "synthesize", "score", "select", "pair", "leaks", "clean", "finetune", "choose", "answer",
    "grade",
]  # fmt: skip

PRODUCES: dict[Action, ArtifactKind] = {
    "source": "data",
    "scratch": "model",
    "synthesize": "rows",
    "score": "rows",
    "select": "rows",
    "pair": "rows",
    "leaks": "leaks",
    "clean": "rows",
    "finetune": "model",
    "choose": "model",
    "answer": "answers",
    "grade": "grades",
}


@dataclass(frozen=True, kw_only=True)
class Input:
    """Rows of another stage: all of them, a random share, or one of several disjoint slices (by hashed row id)."""

    key: str
    kind: ArtifactKind = "rows"
    share: float | None = None
    slice: tuple[int, int] | None = None
    """(index, number of slices)"""
    seed: int = 0
    raw: bool = False
    """True where the rows are no examples, but mappings as their file has them."""

    def identity(self) -> dict[str, Any]:
        partial = self.share is not None or self.slice is not None
        return {"key": self.key, "share": self.share, "slice": self.slice, "seed": self.seed if partial else None}


@dataclass(frozen=True, kw_only=True)
class Binding:
    """The model behind a role: fixed (its revision is known), or the output of the stage `stage`."""

    spec: ModelSpec
    stage: str | None = None
    part: str | None = None
    """Folder inside the stage's output, where that is not the model that it ends with: `points/1`."""

    @property
    def revision(self) -> str:
        """What tells this model from every other."""
        name = self.stage or self.spec.revision
        return name if self.part is None else f"{name}/{self.part}"

    def identity(self) -> dict[str, Any]:
        decisive = settings(self.spec)
        return {
            "revision": self.revision,
            "engine": self.spec.engine,
            "dtype": self.spec.dtype,
            "rendering": RENDERING,  # templates of a folder are in its revision; the default ones are in this number
        } | ({"settings": decisive} if decisive else {})


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. `data` holds what only some actions need (dataset, split, scratch options)."""

    action: Action
    label: str
    block: Block | None = None
    inputs: tuple[Input, ...] = ()
    models: Mapping[str, Binding] = field(default_factory=dict)
    """Role, as the block's asks name it, to model."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Option name to role, for options that hold a role."""
    sources: Mapping[str, tuple[Input, ...]] = field(default_factory=dict)
    """Source role, as the block's options name it, to rows that are read besides the inputs."""
    judge: Block | None = None
    answers: str | None = None
    """For a grade: the key of its answers."""
    leaks: str | None = None
    """For a clean: the key of the check whose rows it leaves out."""
    feedback: tuple[str, ...] = ()
    """Keys of the dev grades that this stage may read."""
    iteration: int | None = None
    seed: int | None = None
    split: str | None = None
    data: Any = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """Further identity: a dataset's content, a suite's items, a prompt pack."""
    suite: str | None = None

    @property
    def kind(self) -> ArtifactKind:
        return PRODUCES[self.action]

    @property
    def name(self) -> str:
        """The block's name, or the action where there is no block."""
        return self.block.name if self.block is not None else self.action

    @property
    def scope(self) -> str:
        """Sets apart the row ids and random numbers of two steps with the same block: its name and what defines it."""
        models = {option: self.models[role].identity() for option, role in sorted(self.roles.items())}
        defined = [self.options(), models, *([self._sources()] if self.sources else [])]
        return f"{self.name}-{sha256(defined)[:8]}"

    @cached_property
    def key(self) -> str:
        return sha256(self.identity())

    def identity(self) -> dict[str, Any]:
        """All that decides the output, as plain JSON values."""
        block = self.block
        return (
            {
                "action": self.action,
                "block": block.name if block else None,
                "version": block.version if block else None,
                "options": self.options(),
                "inputs": [i.identity() for i in self.inputs],
                "models": {option: self.models[role].identity() for option, role in sorted(self.roles.items())},
                "judge": None
                if self.judge is None
                else [self.judge.name, self.judge.version, self.judge.identity_options()],
                "answers": self.answers,
                "feedback": list(self.feedback),
                "iteration": self.iteration,
                "seed": self.seed,
                "split": self.split,
                "fingerprint": dict(self.fingerprint),
            }
            | ({"leaks": self.leaks} if self.leaks is not None else {})
            | ({"sources": self._sources()} if self.sources else {})
            | self._scorer()
        )

    def _sources(self) -> dict[str, Any]:
        """By option: whatever the roles are called, equal rows are the same."""
        named = self.block.sources() if self.block is not None else {}
        return {option: [i.identity() for i in self.sources[role]] for option, role in sorted(named.items())}

    def _scorer(self) -> dict[str, int]:
        """The version of a suite's grading, for a grade: answers outlive it."""
        version = int(getattr(self.block, "scorer", 1)) if self.action == "grade" else 1
        return {"scorer": version} if version > 1 else {}

    def options(self) -> dict[str, Any]:
        """Identity options; for an answer, those that only matter to the grade are left out."""
        if self.block is None:
            return {}
        options = self.block.identity_options()
        if self.action == "answer":
            grading = getattr(self.block, "grading_options", ())
            options = {name: value for name, value in options.items() if name not in grading}
        return options

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of all stages that must be done before this one."""
        models = [b.stage for b in self.models.values() if b.stage is not None]
        answers = [key for key in (self.answers, self.leaks) if key is not None]
        read = [i.key for rows in (self.inputs, *self.sources.values()) for i in rows]
        return tuple(dict.fromkeys(read + models + answers + list(self.feedback)))
