"""Seconds of an evaluation of GSM8K's form: our suite and engine against lm-eval with its `hf` model at its best size.

    python benchmarks/lm_eval_speed.py [--items 96] [--runs 5] [--small]

Both sides evaluate the same items by the same task, lm-eval's own `gsm8k`, greedily, on the same weights (float32, one
CPU thread, models loaded before): contexts and examples are built, answers generated, filtered and scored. Ours
is the suite `lm_eval` on the transformers engine as a stage drives it; theirs is `lm_eval.evaluator.evaluate` with
`HFLM`. Its batch sizes are tried once each, and the fastest is compared. Before any timing the answers of all items are
compared. Two models: `pocket/chat` (no examples, chat template, answers that end by themselves) and random weights
(hidden 192, 3 layers, two examples, every answer of the full length). Items are GSM8K's first ones where
LOOPBENCH_DATA or `../shared/data` holds them; otherwise made-up problems of that form, and the result says so.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from _machine import RESULTS, alternated, machine, medians, quiet, versions, write

MUST, SAME = 0.98, 0.99
"""Share of items whose answers must be equal: two ways to sum may part where two tokens nearly tie."""
SIZES = (4, 8, 16, 32, 64, 96)
RANDOM = {"hidden": 192, "layers": 3, "heads": 6, "vocab": 2048, "context": 2048}
SHOTS = 2


@dataclass(frozen=True)
class Case:
    """A model with the options of the suite that it answers."""

    folder: Path
    options: dict[str, Any]

    def suite(self) -> Any:
        """The suite, made anew: nothing that another run read is kept."""
        from harness.evaluate.lm_eval import LMEval

        return LMEval(task="gsm8k", **self.options)


def problems(count: int, split: str) -> tuple[list[dict[str, str]], str]:
    """Rows of GSM8K where they are here, else made up; and which."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    file = {"test": "test.jsonl", "train": "train.jsonl.gz"}[split]
    for place in (os.environ.get("LOOPBENCH_DATA"), os.environ.get("LOOPBENCH_SHARED_DATA"), str(beside)):
        path = Path(place or ".") / "gsm8k" / file
        if place and path.is_file():
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            return [json.loads(line) for line in raw.decode().splitlines()[:count]], f"GSM8K, the first of {file}"
    rng = random.Random(split)
    return [_made_up(rng) for _ in range(count)], "made up (no GSM8K file here)"


def _made_up(rng: random.Random) -> dict[str, str]:
    a, b, c = (rng.randint(2, 60) for _ in range(3))
    question = f"Ann has {a} boxes of {b} pens each, and {c} pens beside them. How many pens does Ann have in all?"
    return {"question": question, "answer": f"The boxes hold {a} * {b} = {a * b} pens. {a * b + c}.\n#### {a * b + c}"}


def ours(engine: Any, case: Case) -> list[str]:
    """Our suite from its rows to its grades; returns the answers in the order of the items."""
    from harness.blocks.kinds import Context
    from harness.loop.drive import Desk, drive

    suite, context = case.suite(), Context(chats={"model": engine.chat})
    items, desk = suite.items("test"), Desk(engine=lambda _: engine, context=context)
    found = drive({item.id: suite.answer(item, context) for item in items}, desk)
    answers = [found[item.id] for item in items]
    drive({"all": suite.grade(items, answers, None, context)}, desk, tolerate=False)
    return [text for answer in answers for text in answer.outputs]


def theirs(model: Any, case: Case, task: Any, size: int) -> list[str]:
    """lm-eval's evaluation; returns the answers in the order of the items."""
    from lm_eval.evaluator import evaluate

    model.batch_size_per_gpu = size
    chat = bool(case.options.get("chat_template"))
    for one in task["tasks"].values():
        one.set_fewshot_seed(seed=1234)  # as lm-eval's command line and our suite do
    done = evaluate(model, task, bootstrap_iters=0, apply_chat_template=chat, fewshot_as_multiturn=chat)
    rows = [row for row in done["samples"]["gsm8k"] if row["filter"] == "strict-match"]
    return [row["resps"][0][0] for row in sorted(rows, key=lambda row: int(row["doc_id"]))]


def task_of(case: Case, cache: Path) -> Any:
    """lm-eval's own task, with nothing changed but where its rows come from and how long answers may be."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    config = dict(load_yaml(Path(lm_eval.tasks.__file__).parent / "gsm8k" / "gsm8k.yaml"))
    config.pop("tag", None)
    files = {"train": [case.options["train_path"]], "test": [case.options["test_path"]]}
    config |= {"dataset_path": "json", "dataset_name": None, "num_fewshot": case.options["fewshot"]}
    config |= {"dataset_kwargs": {"data_files": files, "cache_dir": str(cache)}}
    config["generation_kwargs"] = dict(config["generation_kwargs"]) | {"max_gen_toks": case.options["max_tokens"]}
    return TaskManager(include_defaults=False).load([config])


def compared(case: Case, sizes: tuple[int, ...], runs: int, cache: Path) -> dict[str, Any]:
    """Answers first, then every batch size once, then ours and the best of them in turn."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines.base import ModelSpec
    from harness.engines.transformers import TransformersEngine

    engine = TransformersEngine(ModelSpec(name="model", path=case.folder, device="cpu"), threads=1)
    plain, tokenizer = (kind.from_pretrained(case.folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    plain.generation_config.max_new_tokens = None  # where a folder sets it, `generate` would not obey the task's limit
    model = HFLM(pretrained=plain.float().eval(), tokenizer=tokenizer, batch_size=1, device="cpu")
    task = task_of(case, cache)
    mine, other = ours(engine, case), theirs(model, case, task, sizes[-1])
    share = sum(a == b for a, b in zip(mine, other, strict=True)) / len(mine)
    if share < SAME:
        raise SystemExit(f"the sides answer differently: {share:.1%} of the answers are equal")
    sides = {str(size): partial(theirs, model, case, task, size) for size in sizes}
    tried = {name: every[0]["wall_s"] for name, every in alternated(sides, 1, warm=0).items()}
    best = min(tried, key=lambda name: tried[name])
    times = alternated({"ours": partial(ours, engine, case), "lm_eval": sides[best]}, runs)
    middle = medians(times)
    engine.close()
    return {
        "same_answers": share,
        "items": len(mine),
        "fewshot": case.options["fewshot"],
        "characters_written": sum(map(len, mine)),
        "seconds_by_size": tried,
        "best_size": int(best),
        "runs": times,
        "items_per_s": {side: round(len(mine) / one["wall_s"], 3) for side, one in middle.items()},
        "ratio_wall": round(middle["lm_eval"]["wall_s"] / middle["ours"]["wall_s"], 3),
        "ratio_cpu": round(middle["lm_eval"]["cpu_s"] / middle["ours"]["cpu_s"], 3),
    }


def cases(folder: Path, items: int, tokens: int) -> tuple[dict[str, Case], str]:
    """The two models with their suites, and where the items come from."""
    from harness.engines import scratch
    from harness.pocket import model_path

    rows, origin = problems(items, "test")
    shown, _ = problems(400, "train")
    for name, part in (("test", rows), ("train", shown)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    texts = [text for row in shown for text in row.values()]
    scratch.build(folder / "random", seed=0, texts=texts, **RANDOM)
    given = {"test_path": str(folder / "test.jsonl"), "train_path": str(folder / "train.jsonl"), "max_tokens": tokens}
    chat = Case(model_path("pocket/chat"), given | {"fewshot": 0, "chat_template": True})
    return {"pocket/chat": chat, "random": Case(folder / "random", given | {"fewshot": SHOTS})}, origin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=96, help="longest answer")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="8 items, 16 tokens, two sizes, one run: does it run?")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "lm_eval_speed.json")
    options = parser.parse_args()
    quiet()
    os.environ.update(HF_DATASETS_OFFLINE="1", TQDM_DISABLE="1", LMEVAL_LOG_LEVEL="ERROR")
    import torch

    torch.set_num_threads(1)
    before, found = machine(), {}
    with tempfile.TemporaryDirectory(prefix="loopbench-") as name:
        folder = Path(name)
        items, tokens = (8, 16) if options.small else (options.items, options.tokens)
        given, origin = cases(folder, items, tokens)
        for label, case in given.items():
            sizes = (4, 8) if options.small else tuple(size for size in SIZES if size <= items)
            found[label] = compared(case, sizes, 1 if options.small else options.runs, folder / "cache")
            print(label, found[label]["items_per_s"], found[label]["ratio_wall"], file=sys.stderr, flush=True)
    result = {
        "benchmark": "lm_eval_speed",
        "machine": before,
        "versions": versions(("loopbench", "lm_eval", "torch", "transformers", "tokenizers")),
        "threads": 1,
        "items": {"count": items, "from": origin, "longest_answer": tokens},
        "random": RANDOM,
        "models": found,
        "ratio_wall": min(one["ratio_wall"] for one in found.values()),
        "must": MUST,
    }
    write(options.output, result)
    return 0 if options.small or result["ratio_wall"] >= MUST else 1


if __name__ == "__main__":
    sys.exit(main())
