"""Does data quantity and quality move the score in the pocket world? Prints base before and after SFT, with intervals.

`python benchmarks/pocket_quality.py [--seeds 5] [--rows 1000] [--items 1000] [--json FILE]`

For each seed: draw a pool of clean rows, and the same questions with 60 % defective answers (wrong, swapped, truncated
and off-format, 15 % each), fine-tune `pocket/base` on each with TRL, and answer held-out test questions greedily. An
item counts when it is right and in the asked form. The difference is paired by seed; its interval is Student's t over
seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from harness.pocket import model_path, oracle
from harness.pocket.check import Player, exchange
from harness.pocket.pool import ANSWER_DEFECTS, rows
from harness.pocket.world import CATEGORIES, questions

DEFECTIVE = 0.6


def tuned(base: Path, data: list[dict[str, Any]], seed: int, epochs: float, learning_rate: float) -> Player:
    """Fine-tune a base model on chat rows, loss on answers only."""
    import datasets
    import torch
    import transformers
    from trl import SFTConfig, SFTTrainer

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig(
            output_dir=scratch, seed=seed, bf16=False, use_cpu=True, gradient_checkpointing=False, save_strategy="no",
            report_to="none", disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False, max_length=256,
            assistant_only_loss=True, per_device_train_batch_size=16, num_train_epochs=epochs,
            learning_rate=learning_rate, lr_scheduler_type="cosine", warmup_steps=20, weight_decay=0.0,
        )  # fmt: skip
        dataset = datasets.Dataset.from_list([{"messages": row["messages"]} for row in data])
        SFTTrainer(model, args=config, train_dataset=dataset, processing_class=tokenizer).train()
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        return Player(Path(scratch))


def solved(player: Player, items: int) -> dict[str, float]:
    """Share of test items right and in the asked form, overall and by category."""
    asked = questions("test", items)
    said = player.answer([exchange(q.turns, []) for q in asked])
    right = [oracle.grade(q.turns[0].truth, text).score == oracle.RIGHT for q, text in zip(asked, said, strict=True)]
    by = {c: [r for q, r in zip(asked, right, strict=True) if q.category == c] for c in CATEGORIES}
    return {"all": sum(right) / len(right), **{c: sum(found) / len(found) for c, found in by.items()}}


def paired(differences: list[float]) -> tuple[float, float, float]:
    """Mean of the differences and its 95 % t interval over seeds."""
    from scipy import stats

    mean = sum(differences) / len(differences)
    if len(differences) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1))
    return mean, mean - half, mean + half


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=model_path("pocket/base"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--epochs", type=float, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    planted = {None: {}, "defective": dict.fromkeys(ANSWER_DEFECTS, DEFECTIVE / len(ANSWER_DEFECTS))}
    untuned = solved(Player(options.base), options.items)
    print(f"untuned            {untuned['all']:.3f}", flush=True)
    results: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for name, defects in planted.items():
            started = time.monotonic()
            data = list(rows(options.rows, seed, defects))
            player = tuned(options.base, data, seed, options.epochs, options.learning_rate)
            seconds = time.monotonic() - started
            found = solved(player, options.items)
            results.append({"seed": seed, "rows": name or "clean", "sft_seconds": seconds, **found})
            families = " ".join(f"{c[:6]} {found[c]:.2f}" for c in CATEGORIES)
            print(f"seed {seed} {name or 'clean':9s}   {found['all']:.3f}   {families}   {seconds:.0f} s", flush=True)
    clean = [r["all"] for r in results if r["rows"] == "clean"]
    dirty = [r["all"] for r in results if r["rows"] != "clean"]
    mean, low, high = paired([a - b for a, b in zip(clean, dirty, strict=True)])
    print(f"clean {sum(clean) / len(clean):.3f}   60 % defective {sum(dirty) / len(dirty):.3f}")
    print(f"clean minus defective {mean:+.3f} [{low:+.3f} {high:+.3f}] over {len(clean)} seeds")
    passed = low > 0 and min(clean) >= 0.5 and untuned["all"] <= 0.05
    if options.json:
        options.json.write_text(
            json.dumps({"untuned": untuned, "runs": results, "difference": [mean, low, high]}, indent=1)
        )
    print("targets met" if passed else "targets NOT met")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
