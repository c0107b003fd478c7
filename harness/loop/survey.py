"""What is done already, what must run, and what was made by other code than that of today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.loop.provenance import source_hash
from harness.loop.stage import Stage
from harness.store.artifacts import Store

CODE_CHANGED = (
    "{count} finished stages of {name} were made by other code of the same version: they are reused; if their rows "
    "would differ now, raise the block's version"
)


def survey(stages: Mapping[str, Stage], children: Mapping[str, list[str]], store: Store) -> dict[str, str]:
    """Key to `done`, or `waiting` for what is not done and is needed by a result that is not done; others are left out.

    Keys are in the order of `stages`.
    """
    state = {key: "done" for key, stage in stages.items() if store.done(stage.kind, key)}
    need = [key for key in stages if not children[key] and key not in state]
    while need:
        key = need.pop()
        if state.get(key) is None:
            state[key] = "waiting"
            need += [p for p in stages[key].parents if p not in state]
    return {key: state[key] for key in stages if key in state}


def changed_code(found: Mapping[str, Stage], store: Store) -> Counter[str]:
    """Blocks whose source files changed since their stages were done at the same version, with the number of stages."""
    changed: Counter[str] = Counter()
    for key, stage in found.items():
        if stage.block is not None and store.manifest(stage.kind, key).get("source_hash") != source_hash(stage):
            changed[stage.name] += 1
    return changed
