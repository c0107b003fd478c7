"""The largest difference between our losses and scores and the released scripts', per variant, over all models.

    python benchmarks/released_ifd_check.py --data DIR [--json FILE]

The scripts' numbers are those that `benchmarks/released_ifd.py` wrote; `--data` holds the Alpaca rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import released_models as tiny

os.environ.setdefault("HF_HUB_OFFLINE", "1")
VARIANTS = ("superfiltering", "cherry_alpaca", "cherry_vicuna", "cherry_wiz", "wiz")


def through(engine: Any, block: Any, rows: Any) -> dict[str, Any]:
    """One scorer on all rows, as a stage runs it."""
    from harness.blocks.kinds import Context
    from harness.loop.drive import Desk, drive

    context = Context(block=block.name, chats={block.model: engine.chat})
    made = {"batch": block.score(rows, context)}
    found: dict[str, Any] = drive(made, Desk(lambda _: engine, context), tolerate=False)["batch"]
    return found


def worst(ours: Any, theirs: Any) -> float:
    """The largest difference; missing on one side only is infinitely far."""
    pairs = list(zip(ours, theirs, strict=True))
    if any((one is None) != (other is None) for one, other in pairs):
        return float("inf")
    return float(max(abs(one - other) for one, other in pairs if one is not None))


def differences(engine: Any, said: Any, rows: Any, cut: int, ask: str) -> dict[str, float]:
    """What is compared -> largest difference, over both lengths of one model."""
    from harness.select.ifd import Ifd
    from harness.select.rifd import Rifd

    found: dict[str, float] = defaultdict(float)
    for length, cap in (("whole", None), ("cut", cut)):
        for variant in VARIANTS:
            ours = through(engine, Ifd(variant=variant, max_length=cap), rows)
            for column in ("ca", "da", "ifd"):
                if column in said[length][variant]:
                    name = f"{variant} {column}"
                    found[name] = max(found[name], worst(ours[column], said[length][variant][column]))
        back = through(engine, Rifd(variant="cherry_vicuna", max_length=cap or 1024, ask=ask), rows)
        for column in ("cq", "dq"):
            name = f"rifd {column}"
            found[name] = max(found[name], worst(back[column], said[length]["reverse"][column]))
    return dict(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import torch

    from harness.engines import open_engine
    from harness.engines.base import ModelSpec
    from harness.records.formats import convert

    torch.set_num_threads(1)
    said = json.loads((tiny.DATA / "released_ifd.json").read_text(encoding="utf-8"))
    _, raw = tiny.rows_of(options.data / tiny.POOL)
    rows = [convert(dict(row), "alpaca", f"alpaca/{place}") for place, row in enumerate(raw)]
    table: dict[str, dict[str, float]] = {}
    for name in tiny.MODELS:
        with tempfile.TemporaryDirectory() as folder:
            engine = open_engine(ModelSpec(name=name, path=tiny.build(name, Path(folder) / name, raw)))
            table[name] = differences(engine, said["models"][name], rows, said["cut"], said["ask"])
            engine.close()
    for what in table[tiny.MODELS[0]]:
        print(f"{what:24}" + "".join(f"{table[name][what]:>16.1e}" for name in tiny.MODELS))
    if options.json is not None:
        about = {"rows": len(rows), "commits": said["commits"], "versions": said["versions"], "largest": table}
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 0 if max(max(row.values()) for row in table.values()) < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
