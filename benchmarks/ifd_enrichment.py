"""How many of our top 5 % of Alpaca by IFD are among the published 5 %, against what chance would give.

    python benchmarks/ifd_enrichment.py --data DIR --model DIR [--model DIR ...] [--every 8] [--json FILE]
    python benchmarks/ifd_enrichment.py --data DIR --train DIR [--steps 1500]

`--data` holds `alpaca/alpaca_data_50002.json.gz`, `alpaca/alpaca_row_index.json.gz` and
`selections/cherry_alpaca_5_percent_ids.json`. `--train` first makes a small Llama in a folder, from nothing, on the
rows that are not scored (every `--every`-th row is). The published list was made with a briefly tuned LLaMA-7B; a model
of a million parameters knows little of what that one knows, so these figures say how much of the list a score finds
with the model that is named, and nothing about the score with a better one. Controls are ranked by the same rows.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARE, SEED, WIDTH, BATCH = 0.05, 0, 256, 4
ROWS, INDEX, PUBLISHED = (
    "alpaca/alpaca_data_50002.json.gz",
    "alpaca/alpaca_row_index.json.gz",
    "selections/cherry_alpaca_5_percent_ids.json",
)
SHAPE = {"hidden": 96, "layers": 3, "heads": 3, "vocab": 3000}
VARIANTS = ("cherry_alpaca", "superfiltering")


def read(file: Path) -> Any:
    """A JSON file, packed or not."""
    data = file.read_bytes()
    return json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)


def train(folder: Path, rows: Sequence[dict[str, str]], steps: int) -> None:
    """A scratch Llama, trained on the rows as running text: half in Alpaca's form, half plain."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines import scratch

    texts = list(_texts(rows))
    scratch.build(folder, **SHAPE, seed=SEED, texts=texts[:20000])
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.05)
    torch.manual_seed(SEED)
    blocks = _blocks(tokenizer, texts)
    start = time.perf_counter()
    for step in range(steps):
        batch = torch.tensor([next(blocks) for _ in range(BATCH)])
        loss = model(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5} loss {loss.item():.3f} {time.perf_counter() - start:6.0f} s", flush=True)
    model.save_pretrained(folder)


def _texts(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    import random

    from harness.select._forms import FORMS

    order = list(rows)
    random.Random(SEED).shuffle(order)
    for place, row in enumerate(order):
        form = FORMS[VARIANTS[place % 2]]
        yield form.prompt(row["instruction"], row["input"]) + row["output"]


def _blocks(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    ids: list[int] = []
    while True:
        for text in texts:
            ids += [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            while len(ids) >= WIDTH:
                yield ids[:WIDTH]
                ids = ids[WIDTH:]


def score(model: str, rows: Sequence[dict[str, str]], variant: str) -> Any:
    """Columns ifd, ca, da and length of the rows, through the product's own path."""
    import pandas as pd

    from harness import config
    from harness.blocks import registry
    from harness.loop.apply import apply

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        file.write_text(json.dumps(rows), encoding="utf-8")
        data = config.load_dataset(file, registry).model_copy(update={"require_answer": False})
        block = config.load_block("score", "ifd", [f"variant={variant}"], registry)
        found = apply(block, data, config.load_model(model, registry), 0, Path(folder) / "home").rows
    table = pd.DataFrame([dict(row.scores) for row in found])
    table["length"] = [len(row.answer or "") for row in found]
    return table


def enrichment(table: Any, listed: Sequence[bool]) -> dict[str, dict[str, float]]:
    """Per way of choosing 5 %: hits, hits that chance gives, their ratio, and the AUROC of the score."""
    import numpy as np
    from scipy.stats import hypergeom
    from sklearn.metrics import roc_auc_score

    member = np.asarray(listed)
    below = table["ifd"].where(table["ifd"] < 1)
    scores = {
        "ifd": below,
        "ifd, lowest": -table["ifd"],
        "ca, highest": table["ca"],
        "da, lowest": -table["da"],
        "longest": table["length"].astype(float),
    }
    take, total = int(SHARE * len(table)), len(table)
    result = {}
    for name, values in scores.items():
        top = values.fillna(-np.inf).to_numpy().argsort(kind="stable")[::-1][:take]
        hits = int(member[top].sum())
        chance = take * member.mean()
        known = values.notna().to_numpy()
        result[name] = {
            "taken": take,
            "hits": hits,
            "by chance": round(float(chance), 1),
            "enrichment": round(float(hits / chance), 3),
            "p (as many or more)": float(f"{hypergeom.sf(hits - 1, total, int(member.sum()), take):.3g}"),
            "auroc": round(float(roc_auc_score(member[known], values.to_numpy()[known])), 4),
        }
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=str, action="append", default=[])
    parser.add_argument("--train", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rows, index, published = (read(options.data / name) for name in (ROWS, INDEX, PUBLISHED))
    places = range(0, len(rows), options.every)
    chosen = [rows[place] for place in places]
    names = set(published)
    listed = [index[place] in names for place in places]
    if options.train is not None:
        if not (options.train / "config.json").is_file():
            train(options.train, [row for place, row in enumerate(rows) if place % options.every], options.steps)
        options.model.append(str(options.train))
    about: dict[str, Any] = {
        "rows": len(chosen),
        "published among them": sum(listed),
        "versions": {name: version(name) for name in ("loopbench", "torch", "transformers")}
        | {"python": platform.python_version()},
        "models": {},
    }
    for model in options.model:
        name = Path(model).name if Path(model).is_dir() else model
        trained = options.train is not None and model == str(options.train)
        how = f"{options.steps} steps of {BATCH} x {WIDTH} tokens, {SHAPE}"
        about["models"][name] = {"trained": how} if trained else {}
        for variant in VARIANTS:
            start = time.perf_counter()
            table = score(model, chosen, variant)
            seconds = time.perf_counter() - start
            found = enrichment(table, listed)
            means = {part: round(float(table[part].mean()), 4) for part in ("ifd", "ca", "da")}
            above = round(float((table["ifd"] >= 1).mean()), 4)
            about["models"][name][variant] = {
                "mean": means,
                "ifd >= 1": above,
                "ways": found,
                "seconds": round(seconds),
            }
            print(f"{name} {variant}: {json.dumps(about['models'][name][variant], indent=1)}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
