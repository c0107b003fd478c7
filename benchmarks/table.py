"""Writes the table of `docs/performance.md` from `benchmarks/results/*.json`: no figure in it is typed by hand.

    python benchmarks/table.py [--check]

What has no result file, or null in it, stands as not measured, with the reason. `--check` writes nothing and exits
with 1 where the page and the results differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks/table.py: begin -->", "<!-- benchmarks/table.py: end -->"
HEAD = ("figure", "reference, same run", "must", "measured", "command", "hardware")


def times(value: float) -> str:
    return f"{value:.2f} ×"


def percent(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")


def points(value: float) -> str:
    return f"± {100 * value:.1f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def gib(value: float) -> str:
    return f"{value / 1024:.2f} GiB"


def plain(value: float) -> str:
    return f"{value:.2f}"


def milliseconds(value: float) -> str:
    return f"{value:.1f} ms"


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        what: the figure.
        reference: what it is measured beside.
        must: what it must reach, in words.
        file: the result, in `benchmarks/results`.
        at: names that lead to the value; `*` stands for every entry of a mapping or list, each shown with its name.
        show: how a value is written.
        holds: whether a value is what it must be.
        command: what measures it.
    """

    what: str
    reference: str
    must: str
    file: str
    at: str
    show: Callable[[float], str]
    holds: Callable[[float], bool]
    command: str


NONE = "–"
GPU = "python3 benchmarks/gpu.py"
SCALE = "python benchmarks/select_scale.py"
FIGURES = (
    Figure(
        "worker-seconds outside engines and trainers on the quickstart, imports apart", NONE, "≤ 3 %",
        "quickstart.json", "workers.outside_share", percent, lambda v: v <= 0.03,
        "python benchmarks/quickstart.py --json benchmarks/results/quickstart.json",
    ),
    Figure(
        "bookkeeping per stage, median", NONE, "≤ 30 ms",
        "bookkeeping.json", "bookkeeping.median_ms", milliseconds, lambda v: v <= 30,
        "python benchmarks/bookkeeping.py",
    ),
    Figure(
        "a synthesizer's own processor time over its engine's, 2,000 rows, warm pocket teacher", NONE, "≤ 5 %",
        "synthesizer_overhead.json", "synthesizers.*.own_share", percent, lambda v: v <= 0.05,
        "python benchmarks/synthesizer_overhead.py",
    ),
    Figure(
        "IFD scoring rows/s, CPU, one thread, Alpaca rows", "Superfiltering's `code_ifd/data_analysis.py`", "≥ 1.0 ×",
        "ifd_speed.json", "ratio_wall", times, lambda v: v >= 1.0,
        "python benchmarks/ifd_speed.py --superfiltering DIR",
    ),
    Figure(
        "IFD scoring rows/s, GPU, 1B shape, synthetic rows",
        "that script's way, re-implemented: a row at a time, all logits", "≥ 10 ×",
        "gpu.json", "scoring.ratio", times, lambda v: v >= 10, GPU,
    ),
    Figure(
        "IFD scoring, GPU, 1B shape: FLOP/s", "measured bf16 matrix product", "≥ 50 %",
        "gpu.json", "scoring.share_of_matmul", percent, lambda v: v >= 0.5, GPU,
    ),
    Figure(
        "generation tokens/s, our vLLM engine", "`LLM.generate`, the same requests", "≥ 0.97 ×",
        "vllm_overhead.json", "ratio", times, lambda v: v >= 0.97, "python benchmarks/vllm_overhead.py",
    ),
    Figure(
        "one experiment by vLLM and by vLLM's server: widest end of the intervals of their differences, points",
        "the transformers engine", "≤ ± 2",
        "engines.json", "widest", points, lambda v: v <= 0.02, "python benchmarks/engines.py",
    ),
    Figure(
        "generation tokens/s, transformers engine, CPU", "`model.generate`, padded batches of its best size", "≥ 1.5 ×",
        "decode_speed.json", "models.*.ratio_wall", times, lambda v: v >= 1.5, "python benchmarks/decode_speed.py",
    ),
    Figure(
        "generation tokens/s, transformers engine, GPU, 1B shape", "`model.generate`, padded batches of its best size",
        "≥ 1.5 ×", "gpu.json", "decode.ratio", times, lambda v: v >= 1.5, GPU,
    ),
    Figure(
        "evaluation of GSM8K's form through our adapter", "lm-eval `hf`, its best batch size", "≥ 0.98 ×",
        "lm_eval_speed.json", "models.*.ratio_wall", times, lambda v: v >= 0.98, "python benchmarks/lm_eval_speed.py",
    ),
    Figure(
        "SFT tokens/s", "TRL's SFTTrainer, its best settings, same rows", "≥ 0.98 ×",
        "sft_speed.json", "models.*.ratio", times, lambda v: v >= 0.98, "python benchmarks/sft_speed.py",
    ),
    Figure(
        "SFT on a GPU, 1B shape, 2,048 packed: MFU of our trainer", "measured bf16 matrix product", "≥ 45 %",
        "gpu.json", "training.ours.mfu", percent, lambda v: v >= 0.45, f"{GPU} --wheels DIR",
    ),
    Figure(
        "the same, a bare PyTorch step (not our trainer)", "measured bf16 matrix product", NONE,
        "gpu.json", "training.bare_step.mfu", percent, lambda v: True, GPU,
    ),
    Figure(
        "embeddings tokens/s, GPU, mean-pooled 1B shape", NONE, NONE,
        "gpu.json", "embedding.pooled.tokens_per_s", count, lambda v: True, GPU,
    ),
    Figure(
        "top 10 % by score and near-duplicates over 3 M rows: peak memory", NONE, "≤ 2 GiB",
        "select_scale.json", "peak_mib", gib, lambda v: v <= 2048, SCALE,
    ),
    Figure(
        "the same: exponent of time in rows (1: linear)", NONE, "≤ 1.15",
        "select_scale.json", "exponents.*", plain, lambda v: v <= 1.15, SCALE,
    ),
    Figure(
        "near-duplicate pass, rows/s on 2 cores", NONE, "≥ 10,000",
        "select_scale.json", "near_rows_per_s", count, lambda v: v >= 10_000, SCALE,
    ),
    Figure(
        "memory after the stages of a 20-stage run, largest over the first of its kind", NONE, "≤ 1.05 ×",
        "stage_memory.json", "growth.*.rss_mib", times, lambda v: v <= 1.05, "python benchmarks/stage_memory.py",
    ),
)  # fmt: skip


class Absent(Exception):
    """A figure that is not there, and why."""


def result_of(file: str, results: Path) -> Mapping[str, Any]:
    """A result file.

    Raises:
        Absent: there is none, or it is of a smoke run.
    """
    path = results / file
    if not path.is_file():
        raise Absent("no result yet")
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("small"):
        raise Absent("the result is of a smoke run")
    return found


def values(found: Any, at: list[str], name: str = "", why: str = "null in the result") -> Iterator[tuple[str, float]]:
    """(name, value) of what the names lead to; the name is that of the entry that a `*` stood for.

    Raises:
        Absent: a value is null or not there, with the reason that the result gives.
    """
    if found is None:
        raise Absent(why)
    if not at:
        yield name, float(found)
        return
    first, rest = at[0], at[1:]
    if first == "*":
        entries = found.items() if isinstance(found, Mapping) else ((one["model"], one) for one in found)
        for entry, value in entries:
            yield from values(value, rest, str(entry), why)
        return
    why = str(found.get("why", why))
    if first not in found:
        raise Absent(why)
    yield from values(found[first], rest, name, why)


def hardware(found: Mapping[str, Any]) -> str:
    """On what it was measured, in a few words."""
    if found.get("gpu"):
        return str(found["gpu"]["name"])
    machine = found.get("machine") or {}
    return f"{machine.get('cores', '?')} cores, {machine.get('processor', 'unknown processor')}"


def row(figure: Figure, results: Path) -> tuple[str, ...]:
    """The cells of a figure."""
    where = NONE
    try:
        found = result_of(figure.file, results)
        where = hardware(found)
        every = list(values(found, figure.at.split(".")))
        shown = ", ".join(figure.show(value) + (f" ({name})" if name else "") for name, value in every)
        measured = shown if all(figure.holds(value) for _, value in every) else f"**{shown}, missed**"
    except Absent as absent:
        measured = f"not measured: {absent}"
    return figure.what, figure.reference, figure.must, measured, f"`{figure.command}`", where


def table(results: Path = RESULTS) -> str:
    """The whole table, in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *(row(figure, results) for figure in FIGURES)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def rendered(page: str, results: Path = RESULTS) -> str:
    """The page with the table as the results give it."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    now = rendered(page)
    if options.check:
        if now != page:
            print(f"{PAGE} is not what the results give: run python benchmarks/table.py", file=sys.stderr)
        return int(now != page)
    PAGE.write_text(now, encoding="utf-8")
    print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
