"""Rows per second of IFD scoring: our stage against the released script, one CPU thread, the same model and rows.

    python benchmarks/ifd_speed.py --superfiltering DIR [--rows 48] [--runs 5] [--small]

DIR is a copy of tianyi-lab/Superfiltering; its `code_ifd/data_analysis.py` runs unmodified, in this process. The model
is a GPT-2 of random weights, made here from a config (`--small`: two narrow layers, for a smoke test).

Timed on both sides: reading the JSON file, tokenising, all forward passes, writing the losses of every row (the script:
a JSON line per row; ours: the `source` and `score` stages, to committed Parquet artifacts with hashes and manifests).
Not timed on either side: imports and loading the model, which both open once. Before any timing the losses of all rows
are compared: they must agree within 1e-4. Rows are Alpaca's, every so many of the file, where LOOPBENCH_DATA or
`../shared/data` holds it; otherwise made-up ones of like lengths, and the result says so.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import math
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from _machine import RESULTS, alternated, machine, medians, quiet, versions, write

TOLERANCE = 1e-4
MUST = 1.0
POOL = Path("alpaca") / "alpaca_data_50002.json.gz"
FULL = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
SMALL = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 1024, "vocab_size": 8192}
WORDS = "the of list two make a good plan for city water and explain why model data is not 12 7 green energy".split()


@dataclass
class Theirs:
    """The released script on a model that is loaded once."""

    script: Path
    model: Path
    rows: Path
    folder: Path
    loaded: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self) -> None:
        out = self.folder / "theirs.jsonl"
        out.unlink(missing_ok=True)
        options = {"data_path": self.rows, "save_path": out, "model_name_or_path": self.model, "max_length": 1024}
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        with contextlib.ExitStack() as around:
            around.enter_context(self._loading_once())
            around.enter_context(mock.patch.object(sys, "argv", [str(self.script), *arguments]))
            around.enter_context(contextlib.redirect_stdout(io.StringIO()))
            around.enter_context(contextlib.redirect_stderr(io.StringIO()))
            runpy.run_path(str(self.script), run_name="__main__")
        self.lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    @contextlib.contextmanager
    def _loading_once(self) -> Iterator[None]:
        import transformers

        with contextlib.ExitStack() as around:
            for name in ("AutoModelForCausalLM", "AutoTokenizer"):
                kind = getattr(transformers, name)
                around.enter_context(mock.patch.object(kind, "from_pretrained", self._once(name, kind.from_pretrained)))
            yield

    def _once(self, name: str, load: Any) -> Any:
        def loaded(*arguments: Any, **options: Any) -> Any:
            if name not in self.loaded:
                self.loaded[name] = load(*arguments, **options)
            return self.loaded[name]

        return loaded

    def losses(self) -> list[tuple[float | None, float | None]]:
        """(direct, conditioned) in nats per row; None where the script has none."""
        found = []
        for line in self.lines:
            one = line.get("loss", [None] * 4)
            found.append((_number(one[1]), _number(one[3])))
        return found


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass
class Ours:
    """The `source` and `score` stages, in a store of their own for each run."""

    model: Path
    rows: Path
    folder: Path

    def __post_init__(self) -> None:
        from harness.config.model import Dataset
        from harness.engines.base import ModelSpec
        from harness.loop.desk import Engines
        from harness.loop.stage import Binding, Input, Stage
        from harness.select.ifd import Ifd
        from harness.store.artifacts import Store
        from harness.store.home import Home

        pool = Dataset(name="pool", path=str(self.rows), format="alpaca", require_answer=False)
        self.source = Stage(action="source", label="data", data=pool, fingerprint={"data": "pool"})
        block = Ifd(model="scorer", variant="superfiltering")
        spec = ModelSpec(name="scorer", path=self.model, revision="random", device="cpu")
        self.score = Stage(
            action="score",
            label="ifd",
            block=block,
            inputs=(Input(key=self.source.key, kind="data"),),
            models={"scorer": Binding(spec=spec)},
            roles=block.roles(),
        )
        self.home = Home(self.folder / "home")
        self.store = Store(self.home.prepare())
        self.engines = Engines(self.store, 1)

    def __call__(self) -> None:
        from harness.loop.clock import Timer
        from harness.loop.work import Job, run

        shutil.rmtree(self.home.store, ignore_errors=True)
        for stage in (self.source, self.score):
            keep, result = run(Job(stage, self.store, self.engines, Timer(), lambda done, total: None))
            self.store.commit(stage.kind, stage.key, keep, result)

    def losses(self) -> list[tuple[float | None, float | None]]:
        """(direct, conditioned) in nats per row."""
        from harness.records import table

        made = self.store.path(self.score.kind, self.score.key) / "rows.parquet"
        return [(row.scores.get("da"), row.scores.get("ca")) for row in table.read(made)]


def rows_of(count: int) -> tuple[list[dict[str, str]], str]:
    """Rows of the Alpaca file where it is here, evenly spread; else made-up ones; and which."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    places = [os.environ.get("LOOPBENCH_DATA"), os.environ.get("LOOPBENCH_SHARED_DATA"), str(beside)]
    for place in places:
        if place and (Path(place) / POOL).is_file():
            with gzip.open(Path(place) / POOL, "rt", encoding="utf-8") as file:
                every = [row for row in json.load(file) if row["output"]]
            step = len(every) / count
            return [every[int(number * step)] for number in range(count)], f"{POOL.name}, every {step:.0f}th"
    return [_made_up(number) for number in range(count)], "made up (no Alpaca file here)"


def _made_up(number: int) -> dict[str, str]:
    import random

    rng = random.Random(number)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    return {"instruction": text(6, 20), "input": text(5, 40) if number % 5 < 2 else "", "output": text(8, 140)}


def build(folder: Path, shape: dict[str, int], texts: list[str]) -> Path:
    """A GPT-2 of random weights (float32) with a byte-pair tokenizer of GPT-2's kind that is learned from `texts`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=shape["vocab_size"], special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "model_max_length": shape["n_positions"]}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **end).save_pretrained(folder)
    torch.manual_seed(0)
    disable_progress_bar()
    GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return folder


def compared(ours: Ours, theirs: Theirs) -> dict[str, Any]:
    """The largest difference of a loss; a row that one side scores and the other does not counts as infinite."""
    worst, scored = 0.0, 0
    for mine, other in zip(ours.losses(), theirs.losses(), strict=True):
        for a, b in zip(mine, other, strict=True):
            if a is None and b is None:
                continue
            worst = max(worst, math.inf if a is None or b is None else abs(a - b))
            scored += 1
    return {"losses": scored, "largest_difference": worst, "tolerance": TOLERANCE, "ok": worst <= TOLERANCE}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--superfiltering", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "ifd_speed.json")
    options = parser.parse_args()
    quiet()
    import torch

    torch.set_num_threads(1)
    rows, origin = rows_of(options.rows)
    shape = SMALL if options.small else FULL
    with tempfile.TemporaryDirectory(prefix="loopbench-") as name:
        folder = Path(name)
        (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        texts = [text for row in rows_of(4000)[0] for text in row.values() if text]
        model = build(folder / "model", shape, texts)
        ours = Ours(model, folder / "rows.json", folder)
        script = options.superfiltering.resolve() / "code_ifd" / "data_analysis.py"
        theirs = Theirs(script, model, folder / "rows.json", folder)
        before = machine()
        ours()
        theirs()
        values = compared(ours, theirs)
        if not values["ok"]:
            print(f"the losses differ: {values}", file=sys.stderr)
            return 1
        runs = alternated({"ours": ours, "theirs": theirs}, options.runs, warm=0)
    middle = medians(runs)
    ratio = round(middle["theirs"]["wall_s"] / middle["ours"]["wall_s"], 3)
    result = {
        "benchmark": "ifd_speed",
        "machine": before,
        "versions": versions(),
        "threads": 1,
        "model": shape | {"kind": "GPT-2, random weights", "dtype": "float32"},
        "rows": {"count": len(rows), "from": origin},
        "values": values,
        "runs": runs,
        "rows_per_s": {side: round(len(rows) / one["wall_s"], 3) for side, one in middle.items()},
        "ratio_wall": ratio,
        "ratio_cpu": round(middle["theirs"]["cpu_s"] / middle["ours"]["cpu_s"], 3),
        "must": MUST,
    }
    write(options.output, result)
    return 0 if ratio >= MUST or options.small else 1


if __name__ == "__main__":
    sys.exit(main())
