"""Fine-tuning speed, from rows to a saved model, beside TRL's SFTTrainer used by itself with its best settings.

    python benchmarks/sft_speed.py [--device cuda] [--small] [--runs 5] [--rows 320] [--batch 8] [--epochs 2]

Both train the same start model on the same rows with the same masks, batch, optimizer and number of steps, and save it.
TRL's side gets token ids and labels that are made before its clock starts; ours renders, checks and encodes the rows in
its time. TRL is tried padded, grouped by length, padding-free and packed (packing makes other batches of about as many
tokens), each once; the fastest is timed against ours in alternated runs. Before that all ways must give the same first
loss, and the same last one after some steps, on batches of all rows of a check set (which have no order).

On a CPU both use one thread, and the models are pocket/base and a random Llama of three million parameters. With
`--device cuda` the model is a random Llama of the 1B shape in bfloat16 arithmetic, with sequences as long as
`--length`, and TRL's recomputation of activations is off like ours, unless the model would not fit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _machine import PACKAGES, RESULTS, alternated, machine, medians, quiet, versions, write

POCKET = Path(__file__).parent.parent / "harness" / "pocket" / "models" / "base"
WAYS = ("padded", "grouped", "padding-free", "packed")
TOLERANCE = 1e-4
"""Between losses of two ways, in nats: they sum the same numbers in other orders, which moved the last losses by 5e-7
where this was written. A wrong mask, batch or schedule, or a look across packed rows, moves them by hundredths."""
ROUNDED = 2e-2
"""The same with bfloat16 arithmetic, which has three digits."""
CHECKED = 4
"""Steps of the check; each is one batch of all its rows."""
RATE = 1e-4


@dataclass(frozen=True)
class Work:
    """What both sides do. `rows` are examples; `ready` the same as token ids and labels."""

    start: Path
    rows: Sequence[Any]
    ready: Sequence[dict[str, list[int]]]
    batch: int
    epochs: int
    device: str
    attention: str | None

    @property
    def tokens(self) -> int:
        """Tokens of all epochs."""
        return self.epochs * sum(len(row["input_ids"]) for row in self.ready)


def ours(work: Work, folder: Path, **more: Any) -> list[float]:
    """One call of the block; returns the losses of its history."""
    from harness.blocks.kinds import TrainContext
    from harness.finetune.sft import Sft

    (folder / "work").mkdir(parents=True)
    options = {"learning_rate": RATE, "epochs": work.epochs, "batch_size": work.batch, "max_length": 4096}
    block = Sft(**options | {"attn_implementation": work.attention, "gradient_checkpointing": False} | more)
    context = TrainContext(start=work.start, out=folder / "model", work=folder / "work", seed=0, device=work.device)
    report = block.train(work.rows, context)
    return [point["loss"] for point in report.history]


def reference(work: Work, folder: Path, way: str, **more: Any) -> list[float]:
    """What a user would write with TRL; returns the losses of its history."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import pack_dataset

    cpu = work.device == "cpu"
    data = Dataset.from_list(list(work.ready))
    batch = work.batch
    if way == "packed":
        width = max(batch * work.tokens // work.epochs // len(work.ready), *(len(r["input_ids"]) for r in work.ready))
        data, batch = pack_dataset(data, width, "bfd"), 1
    settings = {
        "output_dir": str(folder),
        "learning_rate": RATE,
        "num_train_epochs": work.epochs,
        "per_device_train_batch_size": batch,
        "bf16": not cpu,
        "use_cpu": cpu,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": not cpu,
        "report_to": "none",
        "max_length": None,
        "padding_free": way == "padding-free",
        "packing": way == "packed",
        "train_sampling_strategy": "group_by_length" if way == "grouped" else "random",
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "logging_first_step": True,
    }
    model = AutoModelForCausalLM.from_pretrained(
        work.start, dtype=torch.float32, attn_implementation=work.attention or "sdpa"
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**settings | more),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(work.start),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(folder / "model"))
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def run(side: Callable[..., list[float]], work: Work, *arguments: Any, **more: Any) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        return side(work, Path(folder), *arguments, **more)


def equal(work: Work, ways: Sequence[str]) -> dict[str, list[float]]:
    """Losses of a few steps, each on one batch of all rows of a check set: one packed sequence holds them too.

    Raises:
        SystemExit: they differ.
    """
    few = min(32, len(work.rows))
    check = Work(work.start, work.rows[:few], work.ready[:few], few, CHECKED, work.device, work.attention)
    steps = {"max_steps": CHECKED, "logging_steps": 1}
    losses = {"ours": run(ours, check, **steps)} | {way: run(reference, check, way, **steps) for way in ways}
    if problem := differ(losses, work.device == "cpu"):
        sys.exit(f"the {problem} losses differ, so the speeds are not of the same work: {losses}")
    return losses


def differ(losses: Mapping[str, Sequence[float]], exact: bool) -> str | None:
    """Which losses of the ways differ by more than other orders of summing explain: `first`, `last`; None: neither."""
    if {len(found) for found in losses.values()} != {CHECKED}:
        return "numbers of"
    for name, at in (("first", 0), ("last", -1)):
        found = [history[at] for history in losses.values()]
        if not all(abs(a - b) <= (TOLERANCE if exact else ROUNDED) for a in found for b in found):  # NaN differs too
            return name
    return None


def best(work: Work, ways: Sequence[str]) -> tuple[str, dict[str, float | str]]:
    """TRL's fastest way here, from one timed run of each after a warm one; ways that fail say why."""
    took: dict[str, float | str] = {}
    for way in ways:
        try:
            run(reference, work, way, max_steps=2)
            began = time.perf_counter()
            run(reference, work, way)
            took[way] = round(time.perf_counter() - began, 3)
        except (ValueError, ImportError, RuntimeError) as error:
            took[way] = f"{type(error).__name__}: {error}"
    there = {way: seconds for way, seconds in took.items() if isinstance(seconds, float)}
    return min(there, key=lambda way: there[way]), took


def encoded(start: Path, rows: Sequence[Any]) -> list[dict[str, list[int]]]:
    """Ids and labels of rows, up to the last trained token, as the trainer under test has them."""
    from harness.finetune._data import encode_rows
    from harness.records.chat import ChatFormat

    found = encode_rows(rows, ChatFormat.from_folder(start), 4096, None).rows
    return [
        {
            "input_ids": row.ids.tolist(),
            "labels": [i if t else -100 for i, t in zip(row.ids.tolist(), row.train, strict=True)],
        }
        for row in found
    ]


def pool(count: int, length: int) -> list[Any]:
    """Rows of the pocket pool, joined into conversations of about `length` characters where it is not 0."""
    from harness.pocket import pool as world
    from harness.records.example import Example

    kept: list[Any] = []
    messages: list[Any] = []
    for row in world.rows(count * (1 + length // 100), seed=0):
        messages += [m for m in row["messages"] if m["role"] != "system"]
        if sum(len(m["content"]) for m in messages) >= length:
            kept.append(Example(id=str(len(kept)), messages=tuple(messages)))
            messages = []
        if len(kept) == count:
            break
    return kept


def random_llama(folder: Path, shape: dict[str, int], vocabulary: int) -> Path:
    """A Llama with random weights and the tokenizer of pocket/base."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(POCKET, folder)
    torch.manual_seed(0)
    config = LlamaConfig(**shape, vocab_size=vocabulary, max_position_embeddings=8192, pad_token_id=0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def measure(name: str, work: Work, runs: int) -> dict[str, Any]:
    """One model: equal losses, TRL's best way, alternated runs, the ratio of tokens per second."""
    from harness.finetune._run import imports

    imports()
    losses = equal(work, WAYS)
    way, tried = best(work, WAYS)
    sides = {"ours": lambda: run(ours, work), "trl": lambda: run(reference, work, way)}
    every = alternated(sides, runs)
    middle = medians(every)
    clock = "wall_s"
    return {
        "model": name,
        "losses": losses,
        "trl_ways_s": tried,
        "trl_best": way,
        "tokens": work.tokens,
        "runs": every,
        "median": middle,
        "tokens_per_second": {side: round(work.tokens / times[clock], 1) for side, times in middle.items()},
        "ratio": round(middle["trl"][clock] / middle["ours"][clock], 4),
        "ratio_processor": round(middle["trl"]["cpu_s"] / middle["ours"]["cpu_s"], 4),
        "must": 0.98,
    }


def main() -> None:
    """Measures the models of the device and writes benchmarks/results/sft_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--small", action="store_true", help="a few rows and runs, to see that it works")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--length", type=int, default=0, help="characters of a conversation (0: single questions)")
    parser.add_argument("--attention", help="of both sides, such as flash_attention_2")
    parser.add_argument("--out", type=Path, default=RESULTS / "sft_speed.json")
    given = parser.parse_args()
    quiet()
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    rows, runs, epochs = (48, 1, 1) if given.small else (given.rows, given.runs, given.epochs)
    length = given.length or (3000 if given.device == "cuda" else 0)
    examples = pool(rows, length)
    small = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4}
    large = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
    large |= {"num_key_value_heads": 8}
    with tempfile.TemporaryDirectory() as folder:
        if given.device == "cpu":
            starts = {"pocket/base": POCKET, "random Llama": random_llama(Path(folder) / "llama", small, 445)}
        else:
            starts = {"random 1B": random_llama(Path(folder) / "llama", large, 128256)}
        found = []
        for name, start in starts.items():
            ready = encoded(start, examples)
            work = Work(start, examples, ready, given.batch, epochs, given.device, given.attention)
            found.append(measure(name, work, runs))
    about = {"benchmark": "sft_speed", "machine": machine(), "versions": versions((*PACKAGES, "trl", "accelerate"))}
    write(given.out, about | {"small": given.small, "device": given.device, "models": found})


if __name__ == "__main__":
    main()
