"""Cost of a fine-tuning step and of a whole call, beside TRL's SFTTrainer used by itself on the same rows.

Run: python -m benchmarks.finetune_overhead [rows] [repeats]

Both train the pocket base model on the same conversations, in the same batches of 16 rows (in another order), with the
same optimizer, on one thread. Times are CPU seconds of this process, so that other jobs on the machine do not count."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from harness.blocks.kinds import TrainContext
from harness.finetune._run import imports
from harness.finetune.sft import Sft
from harness.records.chat import ChatFormat
from harness.records.example import Example

BASE = Path(__file__).parent.parent / "harness" / "pocket" / "models" / "base"
BATCH, RATE = 16, 1e-3
Train = Callable[[list[Example], Path, int], int]


def pool(count: int) -> list[Example]:
    """Rows of the pocket pool, without planted defects."""
    from harness.pocket import pool as world

    return [Example(id=row["id"], messages=tuple(row["messages"])) for row in world.rows(count, seed=0)]


def ours(rows: list[Example], folder: Path, epochs: int) -> int:
    """One call of the block; returns its steps."""
    context = TrainContext(start=BASE, out=folder / "model", work=folder / "work", seed=0)
    return Sft(learning_rate=RATE, epochs=epochs, batch_size=BATCH).train(rows, context).steps


def raw(rows: list[Example], folder: Path, epochs: int) -> int:
    """What a user would write with TRL: ready token ids and labels, TRL's collator, its fused head; then save."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    chat = ChatFormat.from_folder(BASE)
    masked = [chat.mask(row.messages) for row in rows]
    labels = [[i if flag else -100 for i, flag in zip(ids, mask, strict=True)] for ids, mask in masked]
    data = Dataset.from_dict({"input_ids": [list(ids) for ids, _ in masked], "labels": labels})
    settings = SFTConfig(
        output_dir=str(folder),
        learning_rate=RATE,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        report_to="none",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    model = AutoModelForCausalLM.from_pretrained(BASE)
    trainer = SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=chat.tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(folder / "model"))
    return int(trainer.state.global_step)


def cost(train: Train, rows: list[Example], epochs: int) -> tuple[float, int]:
    """CPU seconds and steps of one call."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        steps = train(rows, Path(folder), epochs)
        return time.process_time() - began, steps


def measure(rows: list[Example], repeats: int) -> dict[str, tuple[float, float]]:
    """By trainer: seconds per further step, and seconds of a call beyond its steps.

    From the fastest calls of one epoch and of three; the trainers take turns, so that both see the same neighbours.
    """
    best: dict[tuple[str, int], tuple[float, int]] = {}
    for _ in range(repeats):
        for train in (ours, raw):
            for epochs in (1, 3):
                key = (train.__name__, epochs)
                best[key] = min(best.get(key, (float("inf"), 0)), cost(train, rows, epochs))
    result = {}
    for name in ("ours", "raw"):
        (short, few), (long, many) = best[name, 1], best[name, 3]
        step = (long - short) / (many - few)
        result[name] = (step, short - step * few)
    return result


def main() -> None:
    """Prints both and their ratio."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    imports()
    rows = pool(int(sys.argv[1]) if len(sys.argv) > 1 else 320)
    for train in (ours, raw):
        cost(train, rows[:BATCH], 1)  # caches and first-use initialisation
    found = measure(rows, repeats=int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    for name, (step, call) in found.items():
        print(f"{name:5s} {step * 1000:6.1f} ms per step   {call:.2f} s per call beyond its steps")
    print(f"ratio {found['ours'][0] / found['raw'][0]:6.2f}")


if __name__ == "__main__":
    main()
