"""How many answers are right and in the asked form before and after `rewrite`, by the pocket world's oracle.

`python benchmarks/realign_pocket.py [--rows 160] [--json FILE]`

Rows of `pocket/clean` with half of the answers in another form than asked for, rewritten greedily by `pocket/chat` with
`n: 1`: adaptive, forced, and in other words without a form. Counted are rows of tasks that are rewritten, so neither
writing nor roleplay.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from harness.blocks.kinds import Context
from harness.blocks.prompts import load_pack
from harness.engines import open_engine
from harness.engines.base import Engine, ModelSpec
from harness.loop.drive import Desk, drive
from harness.pocket import model_path
from harness.pocket.oracle import RIGHT, grade
from harness.pocket.pool import rows
from harness.pocket.world import understand
from harness.records.example import Example, Message
from harness.records.tasks import load_tasks
from harness.synthesize.rewrite import Rewrite


def pool(count: int) -> list[Example]:
    """The rows, with their category as their task; those that are left alone are not among them."""
    found = []
    for row in rows(count, 0, {"off_format": 0.5}):
        messages = tuple(Message(role=m["role"], content=m["content"]) for m in row["messages"])
        task = load_tasks("pocket").by_name[row["tags"]["category"]]
        if task.rewrite:
            found.append(Example(id=row["id"], messages=messages, tags={**row["tags"], "task": task.name}))
    return found


def right(row: Example) -> bool:
    """Right and in the asked form."""
    turn = understand(row.messages[0]["content"])
    return turn is not None and grade(turn.truth, row.answer or "").score == RIGHT


def measured(engine: Engine, given: list[Example], options: dict[str, Any]) -> dict[str, int]:
    """Counts by what the answer was before: in the asked form (`clean`) or not (`off`)."""
    context = Context(block="rewrite", prompts=load_pack("pocket").entries)
    block = Rewrite.model_validate({"taxonomy": "pocket", "max_tokens": 96, "n": 1, "temperature": 0.0, **options})
    desk = Desk(lambda role: engine, context)
    made = drive({i.id: block.make(i, context) for i in block.items(given, context)}, desk, tolerate=False)
    counts: Counter[str] = Counter()
    for before in given:
        (after,) = made[before.id]
        kind = "off" if before.tags["defect"] else "clean"
        counts[f"{kind}: rows"] += 1
        counts[f"{kind}: right before"] += right(before)
        counts[f"{kind}: right after"] += right(after)
        counts[f"{kind}: rewritten"] += after.tags["rewritten"] == "yes"
    return dict(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    spec = ModelSpec(name="pocket/chat", path=model_path("pocket/chat"), prompt_pack="pocket")
    engine, given = open_engine(spec, threads=1), pool(options.rows)
    arms: dict[str, dict[str, Any]] = {"adaptive": {}, "forced": {"adaptive": False}, "no format": {"how": "plain"}}
    found = {name: measured(engine, given, extra) for name, extra in arms.items()}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
