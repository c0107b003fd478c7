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
    models: Mapping[str, Model] | None = None,
) -> Applied:
    """Applies a row block (synthesize, score, select, pair); a model role is bound to `model`, or its own of `models`.

    `data` may be None for a synthesizer that makes rows from nothing. `sources`: what the block reads besides, by the
    name that its options have for it.

    Raises:
        UserError: the block needs rows, a model or another source and none was given.
    """
    if block.kind not in ("synthesize", "score", "select", "pair"):
        raise UserError(
            f"{block.kind} blocks do not work on rows alone: name a synthesizer, scorer, selector or pair builder"
        )
    bindings = _checked(block, data, model, models or {})
    given = () if data is None else (Stage(action="source", label="data", data=data, fingerprint={"data": "file"}),)
    besides = _besides(block, sources or {})
    stage = _stage(block, block.kind, given, besides, bindings, seed)
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


def _checked(
    block: Block, data: Dataset | None, model: Model | None, models: Mapping[str, Model]
) -> dict[str, Binding]:
    """The model of each role that the block asks; refuses what cannot be applied."""
    roles = block.roles()
    if unknown := sorted({*models} - {*roles.values()}):
        known = ", ".join(dict.fromkeys(roles.values())) or "none"
        raise UserError(f"{block.name} asks no model {unknown[0]!r}: its models are {known}")
    given = {role: models.get(role, model) for role in roles.values()}
    if missing := [role for role, one in given.items() if one is None]:
        which = "--model PATH" if len(missing) == len(given) else f"--model {missing[0]}=PATH"
        raise UserError(f"{block.name} asks a model: add {which} (or pocket/chat, pocket/base)")
    bindings = {role: binding_of(one) for role, one in given.items() if one is not None}
    check_capable(block, {option: (role, bindings[role]) for option, role in roles.items()}, block.name)
    if data is None and getattr(block, "reads_rows", True):
        raise UserError(f"{block.name} works on rows: add --data FILE")
    return bindings


def _stage(
    block: Block,
    action: Action,
    given: Sequence[Stage],
    besides: Mapping[str, Stage],
    bindings: Mapping[str, Binding],
    seed: int,
) -> Stage:
    """The block's own stage."""
    packs = {role: load_pack(one.spec.prompt_pack).digest for role, one in bindings.items()}
    return Stage(
        action=action,
        label=block.name,
        block=block,
        inputs=tuple(Input(key=source.key, kind="data") for source in given),
        models=bindings,
        roles=block.roles(),
        sources={
            role: (Input(key=s.key, kind="data", raw=s.data is not None and s.data.format == "rows"),)
            for role, s in besides.items()
        },
        seed=seed,
        fingerprint={"prompts": packs} if packs else {},
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
