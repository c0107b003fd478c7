"""One block on a file: the same stages as in an experiment, in this process, in a store of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.blocks.base import Block
from harness.blocks.kinds import Scorer
from harness.blocks.prompts import load_pack
from harness.config.model import Dataset, Model
from harness.errors import UserError
from harness.loop import inputs
from harness.loop.capable import check_capable
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.models import binding_of
from harness.loop.stage import Action, Binding, Input, Stage
from harness.loop.work import Job, run
from harness.records import table
from harness.records.columns import VECTOR
from harness.records.example import Dropped, Example
from harness.store.artifacts import Store
from harness.store.home import Home

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Applied:
    """Rows that came out, rows that did not, and why; `vectors` by name, float32, (rows, width), NaN: none."""

    rows: list[Example]
    dropped: list[Dropped]
    reasons: Mapping[str, int]
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)


def apply(
    block: Block,
    data: Dataset | None,
    model: Model | None,
    seed: int,
    folder: Path,
    threads: int = 1,
    sources: Mapping[str, Dataset] | None = None,
) -> Applied:
    """Applies a row block (synthesize, score, select, pair); every model role is bound to `model`.

    `data` may be None for a synthesizer that makes rows from nothing. `sources`: what the block reads besides, by the
    name that its options have for it.

    Raises:
        UserError: the block needs rows, a model or another source and none was given.
    """
    if block.kind not in ("synthesize", "score", "select", "pair"):
        raise UserError(
            f"{block.kind} blocks do not work on rows alone: name a synthesizer, scorer, selector or pair builder"
        )
    binding = _checked(block, data, model)
    given = () if data is None else (Stage(action="source", label="data", data=data, fingerprint={"data": "file"}),)
    besides = _besides(block, sources or {})
    stage = _stage(block, block.kind, given, besides, binding, seed)
    store = Store(Home(folder).prepare())
    engines = Engines(store, threads, home=Home.find())
    try:
        for one in (*given, *besides.values(), stage):
            keep, result = run(Job(one, store, engines, Timer(), lambda done, total: None, threads=threads))
            store.commit(one.kind, one.key, keep, result)
    finally:
        engines.close()
    out = store.path("rows", stage.key)
    dropped = list(table.read_dropped(out / DROPPED))
    vectors = _vectors(block, store, stage, folder)
    return Applied(list(table.read(out / ROWS)), dropped, result.get("dropped", {}), vectors)


def _checked(block: Block, data: Dataset | None, model: Model | None) -> Binding | None:
    """The model that the block asks, if any; refuses what cannot be applied."""
    roles = block.roles()
    if roles and model is None:
        raise UserError(f"{block.name} asks a model: add --model PATH (or pocket/chat, pocket/base)")
    binding = binding_of(model) if model is not None else None
    if binding is not None:
        check_capable(block, {option: (role, binding) for option, role in roles.items()}, block.name)
    if data is None and getattr(block, "reads_rows", True):
        raise UserError(f"{block.name} works on rows: add --data FILE")
    return binding


def _stage(
    block: Block,
    action: Action,
    given: Sequence[Stage],
    besides: Mapping[str, Stage],
    binding: Binding | None,
    seed: int,
) -> Stage:
    """The block's own stage; every role that it has is bound to the one model."""
    roles = block.roles()
    return Stage(
        action=action,
        label=block.name,
        block=block,
        inputs=tuple(Input(key=source.key, kind="data") for source in given),
        models=dict.fromkeys(roles.values(), binding) if binding is not None else {},
        roles=roles,
        sources={
            role: (Input(key=s.key, kind="data", raw=s.data is not None and s.data.format == "rows"),)
            for role, s in besides.items()
        },
        seed=seed,
        fingerprint={"prompts": load_pack(binding.spec.prompt_pack).digest} if binding and roles else {},
    )


def _vectors(block: Block, store: Store, stage: Stage, folder: Path) -> dict[str, np.ndarray]:
    made = [Input(key=stage.key)]
    written = [name for name in block.columns() if name.startswith(VECTOR)] if isinstance(block, Scorer) else []
    return {
        name.removeprefix(VECTOR): inputs.vectors(store, made, name, folder / f"{number}.npy")
        for number, name in enumerate(written)
    }


def _besides(block: Block, sources: Mapping[str, Dataset]) -> dict[str, Stage]:
    """Role to the stage that reads it, for all that the block reads besides its rows."""
    missing = [(option, role) for option, role in block.sources().items() if role not in sources]
    if missing:
        option, role = missing[0]
        raise UserError(f"{block.name} reads {role!r} besides its rows (option {option}): add --source {role}=FILE")
    wanted = {role: sources[role] for role in block.sources().values()}
    return {
        role: Stage(action="source", label=f"data {role}", data=data, fingerprint={"source": role})
        for role, data in wanted.items()
    }
