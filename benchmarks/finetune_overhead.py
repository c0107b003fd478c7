"""Cost of a fine-tuning step and of a whole call, beside TRL's SFTTrainer used by itself on the same rows.

Run: python -m benchmarks.finetune_overhead [rows]

Both train the pocket base model on the same conversations, in the same batches of 16 rows (in another order), with the
same optimizer, on one thread. Times are CPU seconds of this process, so that other jobs on the machine do not count.
Numbers measured: see `docs/decisions` for those that decided something.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from harness.blocks.kinds import TrainContext
from harness.finetune._run import imports
from harness.finetune.sft import Sft
from harness.records.chat import ChatFormat
from harness.records.example import Example

BASE = Path(__file__).parent.parent / "harness" / "pocket" / "models" / "base"
BATCH, RATE = 16, 1e-3


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


def cost(train: Callable[[list[Example], Path, int], int], rows: list[Example], epochs: int) -> tuple[float, int]:
    """CPU seconds and steps of one call."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        steps = train(rows, Path(folder), epochs)
        return time.process_time() - began, steps


def measure(train: Callable[[list[Example], Path, int], int], rows: list[Example]) -> dict[str, Any]:
    """Milliseconds per further step, and seconds of a call beyond its steps, from calls of one epoch and of two."""
    cost(train, rows[:BATCH], 1)  # caches, first-use initialisation
    (short, few), (long, many) = cost(train, rows, 1), cost(train, rows, 2)
    step = (long - short) / (many - few)
    return {"step": step * 1000, "call": short - step * few}


def main() -> None:
    """Prints both and their ratio."""
    import torch

    torch.set_num_threads(1)
    imports()
    rows = pool(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
    mine, theirs = measure(ours, rows), measure(raw, rows)
    print(f"ours     {mine['step']:6.1f} ms per step   {mine['call']:.2f} s per call beyond its steps")
    print(f"raw TRL  {theirs['step']:6.1f} ms per step   {theirs['call']:.2f} s per call beyond its steps")
    print(f"ratio    {mine['step'] / theirs['step']:6.2f}")


if __name__ == "__main__":
    main()
