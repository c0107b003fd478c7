"""Do our presets of rules decide as ReAlign's released selectors do? Runs both on the same pairs and counts.

`python benchmarks/realign_released.py --code FOLDER --data FOLDER [--made 20000]`

FOLDER of `--code`: `code/` of GAIR-NLP/ReAlign at 65e66d3, with `rewrite_data_selection.py` as it is. `--data`: a
folder with `realign/nq_factuality_100_*.json` and `alpaca/alpaca_data_50002.json.gz`. Lengths are words for both: the
released code is given a tokenizer that splits at white space and puts one token in front.

Pairs: the authors' 100 NQ answers before and after, and pairs made from Alpaca answers by cutting, appending, swapping,
fencing, labelling and by replacing originals by letters and truth values.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from harness.judges.textrules import Case, Preset, TextRules
from harness.records.tasks import load_tasks

Pair = tuple[str, str, str, str]
PRESETS: tuple[Preset, ...] = ("platypus", "alpaca", "no_robots")


def theirs(code: Any, preset: str, pair: Pair) -> bool:
    """The released decision: is the rewritten answer taken?"""
    question, before, after, task = pair
    if preset == "platypus":
        return bool(code.open_platypus_overall_selection(question, before, after, _tokens))
    if preset == "alpaca":
        return bool(code.alpaca_overall_selection(question, before, after, _tokens))
    return bool(code.no_robots_overall_selection(0, question, before, after, _tokens, task))


def ours(preset: Preset, pair: Pair) -> bool:
    """Ours. That `default` is left alone is the taxonomy's business here, and a rule of one selector there."""
    question, before, after, task = pair
    checks = load_tasks("realign").by_name[task].checks
    case = Case(answer=after, question=question, original=before, checks=checks, length=lambda t: len(t.split()))
    left_alone = preset == "no_robots" and task == "default"
    return not left_alone and TextRules(preset=preset).broken(case) is None


def _tokens(text: str) -> dict[str, list[str]]:
    return {"input_ids": ["<s>", *text.split()]}


def published(folder: Path) -> Iterator[Pair]:
    """The authors' pairs."""
    before, after = (
        json.loads((folder / f"realign/nq_factuality_100_{name}.json").read_text(encoding="utf-8"))
        for name in ("ChatGPT_response", "realign")
    )
    for one, other in zip(before, after, strict=True):
        question, answer = (item["value"] for item in one["items"])
        yield question, answer, other["items"][1]["value"], other["items"][0]["category"]


def made(folder: Path, count: int) -> Iterator[Pair]:
    """Pairs from Alpaca rows, changed in every way that a rule looks at."""
    with gzip.open(folder / "alpaca/alpaca_data_50002.json.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in json.load(file) if row["output"]]
    rng, tasks = Random(0), list(load_tasks("realign").by_name)
    for _ in range(count):
        row = rng.choice(rows)
        question, before = row["instruction"], row["output"]
        after = _changed(before, rng, rng.choice(rows)["output"])
        if rng.random() < 0.2:
            before = rng.choice(["A", "B", "4", "True", "False", " C ", "a"])
        if rng.random() < 0.2:
            question = rng.choice(["Make a plan for", "Plan a", "plan this", " my Plan", "explain"])
        yield question, before, after, rng.choice(tasks)


def _changed(text: str, rng: Random, other: str) -> str:
    words = text.split()
    ways = (
        " ".join(words[: max(1, rng.randrange(len(words) + 1))]), f"{text} {other}", other, f"{text}\n```\nx\n```",
        f"Revised response: {text}", f"The answer is {text}",
    )  # fmt: skip
    return rng.choices(ways, (3, 2, 2, 1, 1, 1))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--made", type=int, default=20_000)
    options = parser.parse_args()
    sys.path.insert(0, str(options.code))
    code = importlib.import_module("rewrite_data_selection")
    for name, pairs in (("nq", list(published(options.data))), ("made", list(made(options.data, options.made)))):
        for preset in PRESETS:
            kept = [theirs(code, preset, pair) for pair in pairs]
            equal = sum(one == ours(preset, pair) for one, pair in zip(kept, pairs, strict=True))
            print(f"{name} {preset}: {equal} of {len(pairs)} decisions equal, {sum(kept)} kept by the released code")


if __name__ == "__main__":
    main()
