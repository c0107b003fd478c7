"""How fast are near duplicates found, and are they all found? `dedup` beside datasketch, on rows with planted copies.

`python benchmarks/near_duplicates.py [--rows 20000] [--data FILE.json[.gz]] [--peer] [--json FILE]`

The rows are instruction texts, from a JSON list with `instruction`, `input` and `output`, or made up; every tenth is
followed by a copy with a few words changed. Recall counts planted copies with a true similarity of at least 0.8, false
drops those below. `--peer` runs datasketch (`pip install datasketch`) on the same shingles.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.select._near import jaccard, shingle
from harness.select._twins import Twins

THRESHOLD, WORDS = 0.8, 3


def load(path: Path | None, count: int) -> list[str]:
    """Texts of a file, or made-up ones of 20 to 120 words."""
    rng = random.Random(0)
    if path is None:
        words = [f"w{k}" for k in range(5000)]
        return [" ".join(rng.choices(words, k=rng.randint(20, 120))) for _ in range(count)]
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = json.loads(raw)[:count]
    return ["\n".join(row.get(key) or "" for key in ("instruction", "input", "output")) for row in rows]


def planted(texts: Sequence[str]) -> tuple[list[str], dict[int, int]]:
    """The texts with changed copies put in, and each copy's place with its original's."""
    rng, out, copies = random.Random(1), list[str](), dict[int, int]()
    for index, text in enumerate(texts):
        out.append(text)
        if index % 10 == 0:
            words = text.split()
            for _ in range(max(1, len(words) // rng.randint(20, 80))):
                words[rng.randrange(len(words))] = f"changed{rng.randrange(1000)}"
            copies[len(out)] = len(out) - 1
            out.append(" ".join(words))
    return out, copies


def ours(texts: Sequence[str]) -> list[bool]:
    """True for each dropped text."""
    with tempfile.TemporaryDirectory() as folder:
        twins = Twins(Path(folder), THRESHOLD, WORDS)
        twins.add(texts)
        return [twin is not None for twin in twins.earlier()]


def datasketch(texts: Sequence[str]) -> list[bool]:
    """The usual loop over MinHash and MinHashLSH."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped, import-not-found, unused-ignore]

    index, dropped = MinHashLSH(threshold=THRESHOLD, num_perm=128), []
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([part.encode() for part in shingle(text, WORDS)])
        dropped.append(bool(index.query(sketch)))
        if not dropped[-1]:
            index.insert(str(number), sketch)
    return dropped


def measure(
    find: Callable[[Sequence[str]], list[bool]], texts: Sequence[str], copies: dict[int, int]
) -> dict[str, float]:
    """Rows per second, and what became of the planted copies."""
    wall, cpu = time.perf_counter(), time.process_time()
    dropped = find(texts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pairs = ((n, frozenset(shingle(texts[n], WORDS)), frozenset(shingle(texts[o], WORDS))) for n, o in copies.items())
    alike = {number: jaccard(one, other) >= THRESHOLD for number, one, other in pairs}
    near = [dropped[number] for number, same in alike.items() if same]
    far = [dropped[number] for number, same in alike.items() if not same]
    return {
        "rows_per_s": len(texts) / wall,
        "cpu_s": cpu,
        "near": len(near),
        "recall": sum(near) / max(1, len(near)),
        "far": len(far),
        "false_drops": sum(far) / max(1, len(far)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    texts, copies = planted(load(options.data, options.rows))
    results = {"dedup": measure(ours, texts, copies)}
    if options.peer:
        results["datasketch"] = measure(datasketch, texts, copies)
    for name, values in results.items():
        print(f"{name:<11} {len(texts):,} rows  " + "  ".join(f"{key} {value:,.4g}" for key, value in values.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
