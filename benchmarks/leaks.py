"""Speed of the contamination check, and what it finds: rows per second against three suites, and planted items.

Run: `LOOPBENCH_DATA=... python benchmarks/leaks.py [rows]`. The rows are Alpaca's; the suites AlpacaEval, MT-Bench and
GSM8K's test part. Copies of questions are planted whole, with another first word, with every tenth word changed, and in
an assistant's turn, so that recall per kind of copy is known.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

from harness import config
from harness.blocks import registry
from harness.blocks.kinds import EvalItem
from harness.config.leaks import Leaks
from harness.records.example import Example, prompt_text
from harness.records.sources import load
from harness.select.leaks import Checker, Passage, passages

EACH = 500


class Problems:
    """GSM8K's test problems, without lm-eval around them."""

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def items(self, split: str) -> list[EvalItem]:
        rows = [row for row in load(config.load_dataset("gsm8k-test", registry)) if isinstance(row, Example)]
        return [EvalItem(id=row.id, turns=(prompt_text(row),), reference=(row.answer or "",)) for row in rows]


def whole(text: str, rng: random.Random) -> str:
    return text


def first_word(text: str, rng: random.Random) -> str:
    return " ".join(["Please", *text.split()[1:]])


def every_tenth(text: str, rng: random.Random) -> str:
    words = text.split()
    for place in range(rng.randrange(10), len(words), 10):
        words[place] = f"other{rng.randrange(1000)}"
    return " ".join(words)


KINDS: dict[str, tuple[Callable[[str, random.Random], str], bool]] = {
    "whole": (whole, True),
    "another first word": (first_word, True),
    "every tenth word changed": (every_tenth, True),
    "whole, in the assistant's turn": (whole, False),
}


def planted(given: list[Passage], kind: str) -> list[Example]:
    change, asked = KINDS[kind]
    rng = random.Random(kind)
    chosen = rng.sample([p for p in given if not p.reference and p.turn == 0], EACH)
    texts = [(p.item, change(p.text, rng)) for p in chosen]
    return [
        Example(
            id=item,
            messages=(
                {"role": "user", "content": text if asked else "Write a question."},
                {"role": "assistant", "content": "Yes." if asked else text},
            ),
        )
        for item, text in texts
    ]


def main() -> None:
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    suites = {name: config.load_suite(name, registry).block for name in ("alpaca-eval", "mt-bench")}
    given = passages({**suites, "gsm8k": Problems()})
    start = time.process_time()
    checker = Checker(given, Leaks())
    built = time.process_time() - start
    rows = [row for row in load(config.load_dataset("alpaca", registry)) if isinstance(row, Example)][:limit]
    start = time.process_time()
    hits = list(checker.check(rows))
    spent = time.process_time() - start
    print(f"index of {len(given):,} passages: {built:.2f} s CPU")
    print(f"{len(rows):,} rows: {spent:.2f} s CPU, {len(rows) / spent:,.0f} rows/s; {len(hits)} hits")
    choices = [
        Leaks(words=w, share=share, near=0.8) for w, share in ((13, 0.2), (13, 0.0), (8, 0.2), (8, 0.5), (8, 0.6))
    ]
    for options in [*choices, Leaks(near=None)]:
        other = Checker(given, options)
        found = {}
        for kind in KINDS:
            copies = planted(given, kind)
            found[kind] = len({h.row for h in other.check(copies) if h.item == h.row}) / len(copies)
        recall = ", ".join(f"{kind} {share:.3f}" for kind, share in found.items())
        count = len(list(other.check(rows)))
        rule = f"words {options.words}, share {options.share}, near {options.near}"
        print(f"{rule}: recall {recall}; {count} hits in the rows")


if __name__ == "__main__":
    main()
